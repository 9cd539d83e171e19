package hfcache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// fuzzCache is a cache for all inputs of one process.
func fuzzCache(f *testing.F) *Cache {
	f.Helper()
	c, err := Create(filepath.Join(f.TempDir(), "hub"), Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = c.Close() })
	return c
}

// FuzzRefFile reads refs as any client may have left them. What is accepted is written as clients want it, under the same name.
func FuzzRefFile(f *testing.F) {
	c := fuzzCache(f)
	f.Add("main", []byte(commitA))
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		dir := c.root
		if err := dir.RemoveAll("refs"); err != nil {
			t.Fatal(err)
		}
		if err := dir.Mkdir("refs", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := dir.WriteFile("refs/file", text, 0o600); err != nil {
			t.Fatal(err)
		}
		ref, err := readRef(dir, filepath.FromSlash("refs/file"), name)
		if err != nil {
			return
		}
		if _, err := hub.ParseCommit(string(ref.Commit)); err != nil || string(ref.Commit) != strings.TrimSpace(string(text)) {
			t.Errorf("%q holds %q: %v", text, ref.Commit, err)
		}
		if string(ref.Name) != name || !filepath.IsLocal(filepath.FromSlash(name)) || filepath.Join("refs", filepath.FromSlash(name)) != filepath.FromSlash("refs/"+name) {
			t.Errorf("the name %q was taken as %q", name, ref.Name)
		}
		d, err := c.RepoDir(hub.Repo{Type: hub.Model, Name: "fuzz/refs"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { finish(t, errors.Join(d.Close(), c.root.RemoveAll("models--fuzz--refs"))) }()
		if err := d.WriteRef(ref.Name, ref.Commit, ref.Learned); err != nil {
			t.Fatal(err)
		}
		again, ok, err := d.Ref(ref.Name)
		if err != nil || !ok || again.Commit != ref.Commit || again.Name != ref.Name {
			t.Errorf("%+v is read back as %+v, %t, %v", ref, again, ok, err)
		}
	})
}

// FuzzUsers reads lists of users of a payload of the shared store. A line counts only if it names a link of a repository to that very payload, and one that does always counts.
func FuzzUsers(f *testing.F) {
	c := fuzzCache(f)
	const place, other = "blobs/01/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "blobs/01/" + "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	users := []string{"models--a--b/blobs/x", "datasets--c/blobs/.odd name"}
	links := map[string]string{
		users[0]: "../../" + place, users[1]: filepath.ToSlash(c.real) + "/" + place,
		"models--a--b/blobs/other": "../../" + other, "models--a--b/blobs/out": "/etc/passwd", "models--a--b/blobs/up": "../../../" + place,
		"models--a--b/blobs/self": "self", "no/blobs/x": "../../" + place, "models--a--b/snapshots/x": "../../" + place, "models--a--b/blobs/sub/x": "../../../" + place,
	}
	for name, target := range links {
		for _, err := range []error{c.root.MkdirAll(filepath.Dir(name), 0o700), c.root.Symlink(target, name)} {
			if err != nil {
				f.Fatal(err)
			}
		}
	}
	if err := c.root.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{place, other, "models--a--b/blobs/file"} {
		if err := c.root.WriteFile(name, []byte("x"), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	dir, err := c.root.OpenRoot(filepath.Dir(place))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = dir.Close() })
	s := sweeper{Remover: &Remover{cache: c, names: newNames()}, out: &Removed{}}
	p := &payloadClaim{place: place, name: filepath.Base(place), dir: dir}
	f.Add([]byte(users[0] + "\n" + users[1] + "\n"))
	f.Fuzz(func(t *testing.T, list []byte) {
		if err := dir.WriteFile(p.name+usersSuffix, list, 0o600); err != nil {
			t.Fatal(err)
		}
		got, _, err := s.users(p)
		if err != nil {
			return // then the payload stays
		}
		for _, user := range got {
			if !slices.Contains(users, user) {
				t.Errorf("%q counts as a user", user)
			}
		}
		lines := strings.FieldsFunc(string(list), func(r rune) bool { return r == '\n' || r == '\r' })
		for _, user := range users {
			if slices.Contains(lines, user) && !slices.Contains(got, user) {
				t.Errorf("%q does not count as a user: %q", user, got)
			}
		}
	})
}

// FuzzJournal reads what an earlier run, or anybody, left about the parts of a download: exactly the numbers in whole lines are taken, and nothing that is not quite right.
func FuzzJournal(f *testing.F) {
	const parts = 12
	header := journalHeader(96<<20, 8<<20, "")
	f.Add([]byte("0\n3\n11\n"))
	f.Fuzz(func(t *testing.T, rest []byte) {
		done := make([]bool, parts)
		data := append([]byte(header), rest...)
		whole, ok := parseJournal(data, header, done)
		if !ok {
			return
		}
		if whole < int64(len(header)) || whole > int64(len(data)) || strings.Contains(string(data[whole:]), "\n") {
			t.Fatalf("%d of %d bytes are whole lines", whole, len(data))
		}
		named := make([]bool, parts)
		for line := range strings.Lines(string(data[len(header):whole])) {
			var i int
			if n, err := fmt.Sscanf(line, "%d\n", &i); n != 1 || err != nil || i < 0 || i >= parts || named[i] || fmt.Sprintln(i) != line {
				t.Fatalf("the line %q was taken: %v", line, err)
			}
			named[i] = true
		}
		if diff := cmp.Diff(named, done); diff != "" {
			t.Errorf("parts (-named +taken):\n%s", diff)
		}
		if _, ok := parseJournal(data, journalHeader(96<<20, 8<<20, "other"), make([]bool, parts)); ok {
			t.Error("it fits another download too")
		}
	})
}

// FuzzLedger reads what is remembered of last uses. What makes sense survives being written, whatever else is in the file.
func FuzzLedger(f *testing.F) {
	state := f.TempDir()
	c := fuzzCache(f)
	l := c.Ledger(state)
	f.Add([]byte(`{"version":1,"uses":{"models--org--name@` + string(commitA) + `":"2026-01-02T03:04:05Z"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(state, l.name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		uses, err := l.Uses()
		if err != nil {
			if len(uses) > 0 {
				t.Errorf("%v, and %v", err, uses)
			}
			return
		}
		for key := range uses {
			_, commitErr := hub.ParseCommit(string(key.Commit))
			if _, err := hub.ParseRepo(key.Repo.Type, key.Repo.Name); err != nil || commitErr != nil || !filepath.IsLocal(key.Repo.Folder()) {
				t.Errorf("%+v was taken: %v, %v", key, err, commitErr)
			}
		}
		if err := l.Record(t.Context(), map[manifest.Key]time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		again, err := l.Uses()
		if err != nil || len(again) != len(uses) {
			t.Fatalf("%d uses became %d: %v", len(uses), len(again), err)
		}
		for key, used := range uses {
			if !used.Truncate(time.Second).Equal(again[key]) {
				t.Errorf("%v was used at %v, and then at %v", key, used, again[key])
			}
		}
	})
}

// FuzzRecord reads what stands beside quarantined files. The names in it lead nowhere but into the repository's snapshots.
func FuzzRecord(f *testing.F) {
	c := fuzzCache(f)
	f.Add([]byte(`{"format":1,"removed":[{"file":"snapshots/` + string(commitA) + `/a/b"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := c.root.WriteFile("record"+recordSuffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
		entries, err := readDir(c.root)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			for _, removed := range readRecord(c.root, e) {
				file, ok := removed.Snapshot()
				if !ok {
					continue
				}
				name := snapshotsDir + "/" + string(file.Commit) + "/" + string(file.Path)
				if name != removed.File || !filepath.IsLocal(filepath.FromSlash(name)) || strings.Contains(name, "..") && slices.Contains(strings.Split(name, "/"), "..") {
					t.Errorf("%q is %q", removed.File, name)
				}
			}
		}
	})
}

// FuzzTarget follows one link from a folder of the cache: it leads below the cache folder, or nowhere.
func FuzzTarget(f *testing.F) {
	c := fuzzCache(f)
	f.Add("models--a--b/snapshots/"+string(commitA)+"/sub", "../../../blobs/x")
	f.Fuzz(func(t *testing.T, dir, text string) {
		if p, err := hub.ParsePath(dir); err != nil || string(p) != dir {
			return
		}
		target, err := c.target(dir, text)
		if err != nil {
			if !errors.Is(err, errOutside) {
				t.Errorf("%q in %q: %v", text, dir, err)
			}
			return
		}
		if !filepath.IsLocal(filepath.FromSlash(target)) || filepath.ToSlash(filepath.Clean(target)) != target {
			t.Errorf("%q in %q leads to %q", text, dir, target)
		}
		if filepath.IsAbs(text) && !strings.HasPrefix(filepath.Clean(text), c.dir) && !strings.HasPrefix(filepath.Clean(text), c.real) {
			t.Errorf("%q leads to %q in the cache", text, target)
		}
	})
}

// FuzzSoftHolder reads files that are locks by their existence. One that says who holds it says so in full.
func FuzzSoftHolder(f *testing.F) {
	f.Add([]byte("4711\nhost\n123456\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		holder, ok := parseSoftHolder(text)
		if !ok {
			return
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		if holder.pid <= 0 || holder.host != lines[1] || len(text) > maxSoftRecord || (holder.start != nil) != (len(lines) == 3) {
			t.Errorf("%q is held by %+v", text, holder)
		}
		if holder.start != nil && holder.start.Sign() < 0 {
			t.Errorf("%q began at %v", text, holder.start)
		}
	})
}

// FuzzScan puts one entry with a foreign name and text into each folder of a repository and reads the cache. Nothing of it may come from outside or be called what it is not.
func FuzzScan(f *testing.F) {
	c := fuzzCache(f)
	outside := filepath.Join(filepath.Dir(c.dir), "outside")
	if err := os.WriteFile(outside, []byte("secret"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Add(byte(1), "x", "../../outside", true)
	f.Fuzz(func(t *testing.T, where byte, name, text string, link bool) {
		folders := []string{"blobs", "snapshots/" + string(commitA), "snapshots/" + string(commitA) + "/sub", "snapshots", "refs", "refs/refs", ".no_exist/" + string(commitA), "trees", ""}
		folder := filepath.FromSlash("models--org--name/" + folders[int(where)%len(folders)])
		if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 || strings.Contains(text, "\x00") || (link && (text == "" || len(text) > 4000)) {
			return // no file can be called so
		}
		finish(t, c.root.RemoveAll("models--org--name"))
		finish(t, c.root.MkdirAll(folder, 0o700))
		put := func() error { return c.root.WriteFile(filepath.Join(folder, name), []byte(text), 0o600) }
		if link {
			put = func() error { return c.root.Symlink(text, filepath.Join(folder, name)) }
		}
		if err := put(); errors.Is(err, fs.ErrExist) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		inv, err := c.Scan(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, repo := range inv.Repos {
			for _, rev := range repo.Revisions {
				for _, file := range rev.Files {
					if _, err := hub.ParsePath(string(file.Path)); err != nil || !filepath.IsLocal(filepath.FromSlash(file.Bytes)) {
						t.Errorf("%+v: %v", file, err)
					}
					if link && file.Size != 0 && !strings.HasSuffix(file.Bytes, "/"+name) {
						t.Errorf("the link %q is the file %+v", text, file)
					}
				}
			}
			for _, ref := range repo.Refs {
				if _, err := hub.ParseRef(string(ref.Name)); err != nil || string(ref.Commit) != strings.TrimSpace(text) {
					t.Errorf("%+v: %v", ref, err)
				}
			}
		}
	})
}
