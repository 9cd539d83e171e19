package doctor

import (
	"fmt"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

// FilesHint is the command that brings back damaged and missing files of a revision. bucket says whether one is configured; without one only the Hub has them.
func FilesHint(repo hub.Repo, commit hub.Commit, bucket bool) string {
	if bucket {
		return "hf-cache-sync verify " + repo.String() + " --repair fetches good copies from the bucket"
	}
	return hubDownload(repo) + " --revision " + string(commit) + " fetches good copies from the Hub"
}

// RefHint is the command that helps against a broken ref.
func RefHint(r hfcache.BrokenRef, bucket bool) string {
	pull, download := "hf-cache-sync pull "+r.Repo.String(), hubDownload(r.Repo)
	if r.Name != string(hub.Main) {
		pull += " -r " + quoted(r.Name)
		download += " --revision " + quoted(r.Name)
	}
	command := download
	if bucket {
		command = pull
	}
	switch {
	case r.Fault == hfcache.RefLeftover:
		return "hf-cache-sync prune removes it"
	case r.Fault == hfcache.RefNowhere && bucket:
		return pull + " makes it name what the bucket has; if the bucket does not have it, delete the file"
	case r.Fault == hfcache.RefNowhere:
		return download + " downloads what it names"
	case r.Fault == hfcache.RefGarbage && !isRef(r.Name):
		return "delete the file: no branch or tag has such a name"
	case r.Fault == hfcache.RefGarbage:
		return command + " writes it again; if there is no such branch or tag, delete the file"
	}
	if bucket {
		return command + " writes it again; if the bucket does not have it, hf-cache-sync verify " + r.Repo.String() + " --repair does"
	}
	return command + " writes it again"
}

func isRef(name string) bool {
	_, err := hub.ParseRef(name)
	return err == nil
}

// hubDownload is the command of the Hub's own client.
func hubDownload(repo hub.Repo) string {
	command := "hf download " + repo.Name
	if repo.Type != hub.Model {
		command += " --repo-type " + repo.Type.String()
	}
	return command
}

// quoted is a word for a shell.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._/-+", r)
	}
	if strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func (c *Cache) filesRow() Row {
	const name = "cache files"
	if c.Inventory == nil {
		return skipped(name)
	}
	broken := c.Inventory.BrokenFiles()
	if len(broken) == 0 {
		return Row{Name: name, Detail: "none is known to be damaged or missing"}
	}
	damaged, first := 0, broken[0]
	for _, f := range broken {
		if f.Damaged {
			if damaged == 0 {
				first = f
			}
			damaged++
		}
	}
	var counts []string
	if damaged > 0 {
		counts = append(counts, fmt.Sprintf("%d damaged", damaged))
	}
	if missing := len(broken) - damaged; missing > 0 {
		counts = append(counts, fmt.Sprintf("%d missing", missing))
	}
	return Row{
		name, Warn, fmt.Sprintf("%s; first %s of %s@%s: %s", strings.Join(counts, ", "), first.Path, first.Repo, first.Commit.Short(), first.Why),
		FilesHint(first.Repo, first.Commit, c.Bucket),
	}
}

func (c *Cache) refsRow(broken []hfcache.BrokenRef) Row {
	const name = "cache refs"
	if c.Inventory == nil {
		return skipped(name)
	}
	if len(broken) == 0 {
		return Row{Name: name, Detail: "all can be followed"}
	}
	first := broken[0]
	return Row{
		name, Warn, fmt.Sprintf("%s cannot be followed; first %s: %s", number(len(broken), "ref", "refs"), first.Place(), first.Why),
		RefHint(first, c.Bucket),
	}
}
