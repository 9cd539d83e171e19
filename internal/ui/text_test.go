package ui_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

func TestSize(t *testing.T) {
	want := map[int64]string{
		0: "0", 1: "1", 532: "532", 999: "999", 1000: "1.0K", 1250: "1.2K", 1251: "1.3K", 999_949: "999.9K", 999_960: "1.0M", 35_149_000: "35.1M",
		1_234_567_890: "1.2G", 4e12: "4.0T", 999_999_999_999: "1.0T", 2e15: "2.0P", math.MaxInt64: "9.2E", math.MinInt64: "-9.2E", -532: "-532", -1500: "-1.5K",
		-999_990: "-1.0M",
	}
	got := map[int64]string{}
	for n := range want {
		got[n] = ui.Size(n)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPlural(t *testing.T) {
	for _, c := range []struct {
		n         int
		one, want string
	}{
		{0, "file", "0 files"},
		{1, "file", "1 file"},
		{2, "file", "2 files"},
		{1, "repository", "1 repository"},
		{3, "repository", "3 repositories"},
		{2, "key", "2 keys"},
		{2, "branch", "2 branches"},
		{2, "hash", "2 hashes"},
		{5000, "blob", "5000 blobs"},
	} {
		if got := ui.Plural(c.n, c.one); got != c.want {
			t.Errorf("Plural(%d, %q) = %q, want %q", c.n, c.one, got, c.want)
		}
	}
}

func TestAgo(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct {
		before time.Duration
		want   string
	}{
		{0, "a few seconds ago"},
		{19 * time.Second, "a few seconds ago"},
		{20 * time.Second, "20 seconds ago"},
		{60 * time.Second, "60 seconds ago"},
		{61 * time.Second, "1 minute ago"},
		{59 * time.Minute, "59 minutes ago"},
		{61 * time.Minute, "1 hour ago"},
		{23 * time.Hour, "23 hours ago"},
		{25 * time.Hour, "1 day ago"},
		{2 * day, "2 days ago"},
		{6 * day, "6 days ago"},
		{7 * day, "1 week ago"},
		{42 * day, "6 weeks ago"},
		{46 * day, "2 months ago"},
		{330 * day, "11 months ago"},
		{365 * day, "1 year ago"},
		{3 * 365 * day, "3 years ago"},
		{-5 * time.Second, "a few seconds ago"},
		{-2 * day, "in 2 days"},
	} {
		if got := ui.Ago(now.Add(-c.before), now); got != c.want {
			t.Errorf("%v before: %q, want %q", c.before, got, c.want)
		}
	}
	if got := ui.Ago(time.Time{}, now); got != "never" {
		t.Errorf("the zero time is %q", got)
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 400 * time.Millisecond: "0.4s", 20 * time.Millisecond: "0s", 3240 * time.Millisecond: "3.2s", 5 * time.Second: "5s", 9960 * time.Millisecond: "10s",
		58400 * time.Millisecond: "58s", 59900 * time.Millisecond: "1m", 65 * time.Second: "1m 5s", 130 * time.Minute: "2h 10m", 2 * time.Hour: "2h",
		76*time.Hour + 3*time.Minute: "3d 4h", -65 * time.Second: "-1m 5s",
	} {
		if got := ui.Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "",
		"model-00001.safetensors": "model-00001.safetensors",
		`C:\hf\new`:               `C:\hf\new`,
		"it's \"so\"":             "it's \"so\"",
		"größe 模型 🤗":              "größe 模型 🤗",
		"a\x1b[2Jb":               `a\x1b[2Jb`,
		"a\r\nb\tc\x00\x7f":       `a\r\nb\tc\x00\x7f`,
		"c1 \u009b31m":            `c1 \u009b31m`,
		"gpj\u202egnp.exe":        `gpj\u202egnp.exe`,
		"\u2066x\u2069\u2028":     `\u2066x\u2069\u2028`,
		"\ufeffbom":               `\ufeffbom`,
		"می\u200cخواهم":           "می\u200cخواهم",
		"bad\xff\xfe utf":         `bad\xff\xfe utf`,
		"\U000e0041":              `\U000e0041`,
		"\ufffd":                  "\ufffd",
	} {
		got := ui.Clean(in)
		if got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
		if again := ui.Clean(got); again != got {
			t.Errorf("Clean(%q) = %q: cleaning twice changes it", got, again)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	err := ui.Table(&out, []string{"id", "size", "refs"}, [][]string{
		{"model/org/größe", "1.2G", "main"},
		{"a\x1b[31m", "532", ""},
		{"short"},
	}, map[int]bool{1: true})
	if err != nil {
		t.Fatal(err)
	}
	want := `
ID              SIZE REFS
--------------- ---- ----
model/org/größe 1.2G main
a\x1b[31m        532
short
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTableWithoutRows(t *testing.T) {
	var out bytes.Buffer
	if err := ui.Table(&out, []string{"id", "size"}, nil, nil); err != nil {
		t.Fatal(err)
	}
	if want := "ID SIZE\n-- ----\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestTableReportsWriteErrors(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "closed"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := ui.Table(f, []string{"id"}, nil, nil); err == nil {
		t.Error("no error for a closed file")
	}
}

func TestFilesAndBuffersAreNoTerminals(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	if ui.IsTerminal(f) || ui.IsTerminal(new(bytes.Buffer)) {
		t.Error("a file or a buffer is taken for a terminal")
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
