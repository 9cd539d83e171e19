//go:build unix

package e2e_test

import (
	"path/filepath"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

const askNew = `^Begin a new bucket there\? \[y/N\]$`

// TestTerminalMissingFolder asks before a bucket's folder is made.
func TestTerminalMissingFolder(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	testenv.Sample().WriteCache(t, filepath.Join(home, "hub"))
	for _, tc := range []struct {
		name   string
		args   []string
		answer string
		code   int
		made   bool
	}{
		{"push", []string{"push", testenv.Sample().Repo}, "y\r", 0, true},
		{"push refused", []string{"push"}, "n\r", 2, false},
		{"push without an answer", []string{"push"}, "\r", 2, false},
		{"push interrupted", []string{"push"}, "\x03", 130, false},
		{"watch", []string{"watch", "--once"}, "yes\r", 0, true},
		{"watch refused", []string{"watch"}, "n\r", 2, false},
		{"backfill refused", []string{"pull", "org/none", "--backfill"}, "n\r", 2, false},
		{"push --yes", []string{"push", "--yes"}, "", 7, false},
		{"dry run", []string{"push", "--dry-run"}, "", 7, false},
		{"pull", []string{"pull", "org/none"}, "", 7, false},
		{"push --json", []string{"push", "--json"}, "", 7, false},
		{"push --create", []string{"push", testenv.Sample().Repo, "--create"}, "", 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			remote, dir := missingFolder(t)
			term := inTerminal(t, remote, home, nil, []string{"HF_HUB_OFFLINE=1"}, tc.args...)
			if tc.answer != "" {
				term.await(askNew)
				term.typed(tc.answer)
			}
			if code := term.end(); code != tc.code {
				t.Errorf("it ended with %d, not %d:\n%q", code, tc.code, term.shown())
			}
			if tc.made {
				new(testenv.Auditor).Bucket(t, dir)
			} else {
				wantAbsent(t, filepath.Dir(dir))
			}
		})
	}
}

// TestInitTerminalFolder asks before it makes the bucket's folder, and makes it
// last.
func TestInitTerminalFolder(t *testing.T) {
	t.Parallel()
	const question = `^Make it\? \[y/N\]: *$`
	for _, tc := range []struct {
		answer, last string
		code         int
		made         bool
	}{
		{"y\r", "\r", 0, true}, {"\r", "\r", 0, false}, {"\x03", "", 130, false}, {"y\r", "\x03", 130, false},
	} {
		folder := filepath.Join(t.TempDir(), "nas", "hf")
		q := initInTerminal(t, worktree(t), nil, "--provider", "file", "--folder", folder)
		q.answer(question, tc.answer)
		if tc.last != "" {
			q.answer(askIgnore, tc.last)
		}
		q.wantEnd(tc.code)
		if tc.code != 0 {
			q.wantNothing()
		}
		if tc.made {
			new(testenv.Auditor).Bucket(t, folder)
		} else {
			wantAbsent(t, filepath.Dir(folder))
		}
	}
}
