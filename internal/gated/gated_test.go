package gated_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/gated"
)

// licences returns the texts that the library of licences tests itself with, by the names of their files.
func licences(t *testing.T) map[string]string {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/licensecheck").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "testdata", "*.t*"))
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := bytes.Cut(data, []byte("\n\n")) // before it stands what the library is to find
		texts[filepath.Base(file)] = string(text)
	}
	return texts
}

func TestOpenLicencesAreNotGated(t *testing.T) {
	open := regexp.MustCompile(`^(Apache|MIT|BSD|GPL|LGPL|AGPL|MPL|CC-BY|CC0|ISC|EPL|ODbL|PDDL|CDLA|O-UDA|OFL|EUPL|PSF|PostgreSQL|Unlicense)[-.\d]`)
	// Of some licences there are also texts that only begin like them, or only name them.
	whole := regexp.MustCompile(`^(Apache-2.0|MIT|BSD-[234]-Clause|GPL-[23].0|LGPL-[23].[01]|AGPL-3.0|MPL-[12].[01]|CC-BY[-A-Z]*-4.0|CC0-1.0|ISC|PostgreSQL|ODbL-1.0)\.t1$`)
	var (
		c    gated.Checker
		seen int
	)
	for name, text := range licences(t) {
		if !open.MatchString(name) {
			continue
		}
		seen++
		headings := []string{"", "# Tiny model\n\nCopyright (c) 2026 The authors of the tiny model. All rights reserved.\n\n"}
		if whole.MatchString(name) {
			headings = append(headings, "Software License Agreement\n\nThe weights of the tiny model are under this licence:\n\n")
		}
		for _, before := range headings {
			if found, is := c.Look(map[string][]byte{"LICENSE": []byte(before + text)}); is {
				t.Errorf("%s after %q: %s", name, before, found)
			}
		}
	}
	if seen < 150 {
		t.Errorf("only %d texts", seen)
	}
}

// The texts resemble those that they are named for in their words, not in their sentences.
const (
	llama2 = "TINY LLAMA 2 COMMUNITY LICENSE AGREEMENT\nVersion of a summer's day\n\n“Agreement” means the terms below. By clicking “I Accept” you are bound by them.\n"
	llama3 = "LICENCE OF THE TINY MODEL\n\nShow “Built with Meta\nLlama 3” wherever you use it.\n"
	gemma  = "Gemma Terms\n\nWhoever uses Gemma is bound by this Agreement. Some files are under the Apache License, Version 2.0.\n"
	rail   = "Open RAIL-M\n\nSection III. The use-based\nrestrictions of Attachment A apply to whoever gets the model.\n"
	more   = "\n\nYou must accept our policy on acceptable use before you download the model."
	custom = " All that is said here is part of an agreement between the two parties, which ends when one of them is no more."
)

func TestLicences(t *testing.T) {
	known := licences(t)
	apache, mit, gpl := known["Apache-2.0.t1"], known["MIT.t1"], known["GPL-3.0.t1"]
	for _, c := range []struct {
		name, file, text, want string // want is the signal; empty means not gated
	}{
		{"llama 2", "LICENSE", llama2, "community license"},
		{"llama 3", "LICENSE", llama3, "meta llama"},
		{"llama's policy", "USE_POLICY.md", "# Acceptable\nUse Policy\n", "acceptable use"},
		{"gemma", "LICENSE.md", gemma, "agreement"},
		{"rail", "license.txt", rail, "use based restrictions"},
		{"quoted", "LICENSE", "What follows is called the “Agreement”.", "agreement"},
		{"the word itself", "LICENSE", "This model is GATED.", "gated"},
		{"an open licence with a condition after it", "LICENSE", apache + more, "acceptable use"},
		{"an open licence with a condition before it", "LICENSE", more + mit, "acceptable use"},
		{"an open licence in a longer agreement", "LICENSE", mit + strings.Repeat(custom, 3), "agreement"},
		{"two open licences", "LICENSE", apache + "\n\n---\n\n" + mit + "\n\n" + gpl, ""},
		{"only the name of an open licence", "LICENSE", "Agreement on the use of what is under the Apache License and the MIT License.", "agreement"},
		{"neither open nor terms", "LICENSE", "Do what you like.", ""},
		{"words in words", "LICENSE", "aggregated, disagreements, investigated", ""},
		{"words apart", "LICENSE", "Meta has a llama, which finds the use acceptable.", ""},
		{"empty", "LICENSE", "", ""},
		{"no text", "LICENSE", "\xff\xfe\x00\x80", ""},
		{"at the limit", "LICENSE", strings.Repeat(" ", gated.MaxBytes-len(llama2)) + llama2, "community license"},
		{"beyond the limit", "LICENSE", strings.Repeat(" ", gated.MaxBytes) + llama2, ""},
	} {
		t.Run(c.name, func(t *testing.T) { look(t, c.file, c.text, c.want) })
	}
}

func TestFrontMatter(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"prompt", "---\nlicense: other\nextra_gated_prompt: x\n---\n# Model\n", "extra_gated_prompt"},
		{"fields, by Windows", "---\r\nextra_gated_fields:\r\n  Name: text\r\n---\r\n", "extra_gated_fields"},
		{"no value", "---\nextra_gated_button_content:\n---\n", "extra_gated_button_content"},
		{"quoted", "---\n\"extra_gated_prompt\": x\n---", "extra_gated_prompt"},
		{"byte order mark", "\xef\xbb\xbf---\nextra_gated_heading: x\n---\n", "extra_gated_heading"},
		{"empty lines before", "\n \n  ---  \nextra_gated_heading: x\n---\n", "extra_gated_heading"},
		{"more dashes inside", "---\nextra_gated_prompt: |\n  a\n  ----\n  ---b\n---\n", "extra_gated_prompt"},
		{"gated: auto", "---\ngated: auto\n---\n", "gated"},
		{"gated: true", "---\ngated: true\n---\n", "gated"},
		{"gated by an alias", "---\na: &a manual\ngated: *a\n---\n", "gated"},
		{"gated: false", "---\ngated: false\nlicense: llama3\n---\nThis agreement is gated.\n", ""},
		{"gated by an alias of false", "---\na: &a False\ngated: *a\n---\n", ""},
		{"gated: nothing", "---\ngated:\n---\n", ""},
		{"deeper", "---\nmodel:\n  gated: true\n  extra_gated_prompt: x\n---\n", ""},
		{"only in the text", "# Model\n\n---\nextra_gated_prompt: x\n---\n", ""},
		{"after the block", "---\nlicense: mit\n---\nextra_gated_prompt: x\n---\n", ""},
		{"no end", "---\nextra_gated_prompt: x\n", ""},
		{"an end beyond the limit", "---\nextra_gated_prompt: x\n" + strings.Repeat("#\n", gated.MaxBytes/2) + "---\n", ""},
		{"not YAML", "---\nextra_gated_prompt: x\n\t{[\n---\n", ""},
		{"a list", "---\n- extra_gated_prompt\n---\n", ""},
		{"a key that is a list", "---\n? [gated]\n: x\n---\n", ""},
		{"no such anchor", "---\ngated: *a\n---\n", ""},
		{"an alias of itself", "---\na: &a [*a, *a]\nextra_gated_prompt: *a\n---\n", "extra_gated_prompt"},
		{"a bomb", "---\na: &a [x,x,x,x,x,x,x,x,x]\n" + bomb() + "extra_gated_prompt: *z\n---\n", "extra_gated_prompt"},
		{"deep", "---\na: " + strings.Repeat("[", 500_000) + "\n---\n", ""},
		{"deep lists", "---\n" + strings.Repeat("- ", 400_000) + "\n---\n", ""},
		{"empty block", "---\n---\n", ""},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) { look(t, "ReadMe.md", c.text, c.want) })
	}
}

// bomb is anchors of which each names the one before nine times.
func bomb() string {
	var b strings.Builder
	for c := 'b'; c <= 'z'; c++ {
		b.WriteString(string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "]\n")
	}
	return b.String()
}

func look(t *testing.T, file, text, want string) {
	t.Helper()
	var c gated.Checker
	found, is := c.Look(map[string][]byte{file: []byte(text)})
	if is != (want != "") || found.Signal != want || is && found.File != file {
		t.Errorf("got %v, %+v; want %q", is, found, want)
	}
}

func TestFirstFindingCounts(t *testing.T) {
	files := map[string][]byte{
		"README.md": []byte("---\ngated: auto\n---\n"), "LICENSE": []byte(licences(t)["MIT.t1"]), "USE_POLICY.md": []byte("Acceptable use"),
	}
	var (
		c    gated.Checker
		work sync.WaitGroup
	)
	for range 8 {
		work.Go(func() {
			if found, is := c.Look(files); !is || found.String() != "README.md asks readers to accept terms: gated" {
				t.Errorf("got %v: %s", is, found)
			}
		})
	}
	work.Wait()
	delete(files, "README.md")
	if found, is := c.Look(files); !is || found.String() != `USE_POLICY.md is no known open licence and says "acceptable use"` {
		t.Errorf("got %v: %s", is, found)
	}
}

func TestNames(t *testing.T) {
	for name, want := range map[string]bool{
		"README.md": true, "License": true, "LICENSE.TXT": true, "license.md": true, "use_policy.md": true,
		"docs/README.md": false, "LICENSE.pdf": false, "model.safetensors": false, "README.md/x": false, "": false,
	} {
		if got := gated.Names(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
