package hfcache

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// slowFiles is the snapshot that pullSlowly writes.
func slowFiles() map[hub.Path]string {
	return map[hub.Path]string{"a": "first", "sub/b": "second", "sub/c": bigText}
}

// pullSlowly does what a pull does and calls step between any two changes.
func pullSlowly(c *Cache, step func(string) error) error {
	d, err := c.RepoDir(lockRepo)
	if err != nil {
		return err
	}
	for i, p := range []hub.Path{"a", "sub/b", "sub/c"} {
		if err := fetchSlowly(d, slowFiles()[p], i == 2, step); err != nil {
			return err
		}
	}
	for p, text := range slowFiles() {
		if _, err := d.Link(commitA, p, sha(text), int64(len(text))); err != nil {
			return err
		}
		if err := step("linked"); err != nil {
			return err
		}
	}
	if err := d.WriteTree(commitA, smallTree("")); err != nil {
		return err
	}
	if err := step("tree"); err != nil {
		return err
	}
	if err := d.WriteNoExist(commitA, []hub.Path{"none"}); err != nil {
		return err
	}
	if err := step("mark"); err != nil {
		return err
	}
	if err := d.WriteRef("main", commitA, someTime); err != nil {
		return err
	}
	return step("ref")
}

func fetchSlowly(d *RepoDir, text string, resumable bool, step func(string) error) error {
	size := int64(len(text))
	if d.HasBlob(sha(text), size) {
		return nil
	}
	stage := func() (*Staged, error) { return d.Stage(sha(text), size) }
	if resumable {
		stage = func() (*Staged, error) { return d.StageResumable(sha(text), size, bigPart, "") }
	}
	s, err := stage()
	if err != nil {
		return err
	}
	resumed := len(doneParts(s))
	if err := step(fmt.Sprintf("staged, has %d", resumed)); err != nil {
		return err
	}
	for i := range s.Parts() {
		if s.Done(i) {
			continue
		}
		from := int64(i) * s.PartSize()
		if _, err := s.WriteAt([]byte(text[from:min(from+s.PartSize(), size)]), from); err != nil {
			return err
		}
		if err := step("written"); err != nil {
			return err
		}
		if err := s.MarkDone(i); err != nil {
			return err
		}
		if err := step("done"); err != nil {
			return err
		}
	}
	if err := s.Sync(); err != nil {
		return err
	}
	if err := s.Publish(); err != nil {
		return err
	}
	return step("published")
}

// A process that is killed after any of its steps leaves only whole files under final names; the next one goes on from the parts that
// the killed one had finished, and reaches the end.
func TestKilledAtEveryStep(t *testing.T) {
	for kill := 1; ; kill++ {
		c := writeCache(t)
		o := startOther(t, c.dir, "pull")
		steps, done := 0, 0
		last := ""
		for steps < kill {
			line := o.line()
			if line == "" {
				break
			}
			if strings.HasPrefix(line, "staged") {
				done = 0
			}
			if line == "done" {
				done++
			}
			if steps++; steps < kill {
				o.goOn()
			}
			last = line
		}
		finished := last == "ref"
		finish(t, o.cmd.Process.Kill())
		_ = o.cmd.Wait() // it was killed, which is an error
		audit(t, c)

		resumed := -1
		var lines []string
		finish(t, pullSlowly(c, func(line string) error {
			lines = append(lines, line)
			_, _ = fmt.Sscanf(line, "staged, has %d", &resumed)
			return nil
		}))
		if (last == "written" || last == "done") && done > 1 && resumed != done { // only the large blob has more than one part
			t.Errorf("killed at step %d with %d parts done, %d were used", kill, done, resumed)
		}
		audit(t, c)
		wantComplete(t, c)
		if finished {
			return
		}
		if kill > 100 {
			t.Fatalf("no end: %q", lines)
		}
	}
}

// audit checks everything that has a final name.
func audit(t *testing.T, c *Cache) {
	t.Helper()
	folder := filepath.Join(c.dir, lockRepo.Folder())
	for _, rel := range listing(t, folder) {
		name, target, isLink := strings.Cut(rel, " -> ")
		file := filepath.Join(folder, filepath.FromSlash(name))
		kind, base, _ := strings.Cut(name, "/")
		switch {
		case kind == blobsDir && strings.HasPrefix(base, "."): // of no interest to any client
		case kind == blobsDir:
			if got := sha(content(t, file)); string(got) != base {
				t.Errorf("blob %s hashes to %s", base, got)
			}
		case kind == snapshotsDir:
			_, p, _ := strings.Cut(base, "/")
			if want := slowFiles()[hub.Path(p)]; !isLink || content(t, file) != want {
				t.Errorf("%s (to %q) is not %q", name, target, want)
			}
		case kind == refsDir:
			if got := content(t, file); got != string(commitA) {
				t.Errorf("%s holds %q", name, got)
			}
			if _, err := os.Stat(filepath.Join(folder, snapshotsDir, string(commitA))); err != nil {
				t.Error(err)
			}
		case kind == treesDir:
			if _, err := manifest.DecodeTreeFile([]byte(content(t, file))); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case kind == noExistDir:
		default:
			t.Errorf("unexpected file %s", name)
		}
	}
}

func wantComplete(t *testing.T, c *Cache) {
	t.Helper()
	folder := filepath.Join(c.dir, lockRepo.Folder())
	for p, text := range slowFiles() {
		if got := content(t, filepath.Join(folder, snapshotsDir, string(commitA), filepath.FromSlash(string(p)))); got != text {
			t.Errorf("%s holds %q", p, got)
		}
	}
	if got := content(t, filepath.Join(folder, refsDir, "main")); got != string(commitA) {
		t.Errorf("main is %q", got)
	}
}
