// Runs the real @huggingface/hub for the oracle tests.
//
// A JSON list of steps comes on standard input, one JSON list of outcomes goes
// to standard output: {"ok": value} or {"error": class, "message": text}, in
// the same order. A step is an object with "do" and that function's arguments;
// "type" is "model" (the default), "dataset" or "space". HFCS_NPM is the folder
// whose node_modules holds the library. The cache is HF_HOME's, as for any
// user; HF_ENDPOINT is passed on, because the library itself does not read it.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, relative } from "node:path";
import { text } from "node:stream/consumers";

const require = createRequire(`${process.env.HFCS_NPM}/package.json`);
const hub = require("@huggingface/hub");
const hubUrl = process.env.HF_ENDPOINT;

// Standard output is for the outcomes; the library reports each download there.
console.debug = () => {};

const designate = (step) => ({ type: step.type ?? "model", name: step.repo });

const steps = {
	// snapshotDownload; gives the name of the snapshot folder.
	download: async (step) =>
		basename(await hub.snapshotDownload({ repo: designate(step), revision: step.revision, hubUrl })),

	// downloadFileToCacheDir; gives the digest of the file and the snapshot
	// folder, which for a branch is the commit that last changed the file.
	file: async (step) => {
		const path = await hub.downloadFileToCacheDir({
			repo: designate(step),
			path: step.path,
			revision: step.revision,
			hubUrl,
		});
		return {
			commit: relative(hub.getHFHubCachePath(), path).split("/")[2],
			sha256: createHash("sha256").update(await readFile(path)).digest("hex"),
		};
	},

	// scanCacheDir without what depends on the machine or the clock.
	scan: async () => {
		const info = await hub.scanCacheDir();
		const repos = {};
		for (const repo of info.repos) {
			const revisions = {};
			for (const rev of repo.revisions) {
				const files = {};
				for (const f of rev.files) {
					files[relative(rev.path, f.path)] = { size: f.blob.size, blob: basename(f.blob.path) };
				}
				revisions[rev.commitOid] = { size: rev.size, refs: [...rev.refs].sort(), files };
			}
			repos[`${repo.id.type}s/${repo.id.name}`] = { size: repo.size, files: repo.filesCount, revisions };
		}
		return { size: info.size, repos, warnings: info.warnings.map(String), incomplete: 0 };
	},
};

const outcomes = [];
for (const step of JSON.parse(await text(process.stdin))) {
	try {
		outcomes.push({ ok: await steps[step.do](step) });
	} catch (e) {
		console.error(e);
		outcomes.push({ error: e.constructor.name, message: String(e.message) });
	}
}
// Two caches that hold the same give the same text.
process.stdout.write(JSON.stringify(outcomes).replaceAll(process.env.HF_HOME, "$HF_HOME"));
