package query_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/query"
)

const day = 24 * time.Hour

func now() time.Time { return time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC) }

// rows are three repositories, and one of which no time is known.
func rows() []query.Row {
	return []query.Row{
		{Name: "org/big", Type: "model", Size: 4e9, Accessed: now().Add(-day), Modified: now().Add(-400 * day), Refs: []string{"main", "v1.0"}},
		{Name: "org/small", Type: "model", Size: 2_000, Accessed: now().Add(-40 * day), Modified: now().Add(-40 * day), Refs: []string{"main"}},
		{Name: "datasets/org/data", Type: "dataset", Size: 1e9, Accessed: now().Add(time.Hour), Modified: now().Add(-3 * day)},
		{Name: "org/unknown", Type: "model", Size: 7},
	}
}

func apply(t *testing.T, filters []string, sort string, limit int) string {
	t.Helper()
	q, err := query.Parse(filters, sort, limit, now())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range query.Apply(q, rows(), func(r query.Row) query.Row { return r }) {
		names = append(names, r.Name[strings.LastIndex(r.Name, "/")+1:])
	}
	return strings.Join(names, " ")
}

func TestFilter(t *testing.T) {
	for filter, want := range map[string]string{
		"":                            "big small data unknown",
		"size>1gb":                    "big",
		"size>=1gb":                   "big data",
		"size<1GB":                    "small unknown",
		"size <= 0.000001 gb":         "unknown",
		"size=2kb":                    "small",
		"size=2000":                   "small",
		"size!=2k":                    "big data unknown",
		"accessed>30d":                "small",
		"accessed<30d":                "big data",
		"accessed>=24h":               "big small",
		"accessed=1d":                 "big",
		"accessed=0s":                 "data", // its clock is ahead
		"modified>1y":                 "big",
		"modified>1mo":                "big small",
		"modified<1w":                 "data",
		"modified>60m":                "big small data",
		"modified!=3d":                "big small",
		"type=dataset":                "data",
		"TYPE=Model":                  "big small unknown",
		"type!=model":                 "data",
		"refs=main":                   "big small",
		"refs=V1.0":                   "big",
		"refs!=main":                  "data unknown",
		"size>1kb;accessed>30d":       "small",
		"type=model;refs=main;size>0": "big small",
	} {
		var filters []string
		if filter != "" {
			filters = strings.Split(filter, ";")
		}
		if got := apply(t, filters, "", 0); got != want {
			t.Errorf("%s: %q, want %q", filter, got, want)
		}
	}
}

func TestSortAndLimit(t *testing.T) {
	for _, c := range []struct {
		sort  string
		limit int
		want  string
	}{
		{"", 2, "big small"},
		{"size", 0, "big data small unknown"},
		{"size:asc", 0, "unknown small data big"},
		{"size:DESC", 1, "big"},
		{"accessed", 0, "data big small unknown"},
		{"accessed:asc", 0, "unknown small big data"},
		{"modified", 0, "data small big unknown"},
		{"name", 0, "data big small unknown"},
		{"name:desc", 0, "unknown small big data"},
		{"name", 99, "data big small unknown"},
	} {
		if got := apply(t, nil, c.sort, c.limit); got != c.want {
			t.Errorf("--sort %q --limit %d: %q, want %q", c.sort, c.limit, got, c.want)
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		filter, sort string
		limit        int
		want         string
	}{
		{filter: "sise>1gb", want: `--filter "sise>1gb": unknown key "sise", did you mean "size"? There are accessed, modified, refs, size, type`},
		{filter: "colour=red", want: `--filter "colour=red": unknown key "colour": there are accessed, modified, refs, size, type`},
		{filter: "size", want: `--filter "size": it has no operator, one of = != > < >= <=; if a shell took the > or < for itself, put the filter in quotes: 'size>1gb'`},
		{filter: "", want: `--filter "": it has no key: one of accessed, modified, refs, size, type`},
		{filter: ">1gb", want: `--filter ">1gb": it has no key: one of accessed, modified, refs, size, type`},
		{filter: "size==1gb", want: `--filter "size==1gb": unknown operator "==": there are = != > < >= <=`},
		{filter: "size>", want: `--filter "size>": nothing follows the >`},
		{filter: "size>big", want: `--filter "size>big": "big" is no size: write a number of bytes, or one with kb, mb, gb or tb, as in 1.5gb`},
		{filter: "size>1gib", want: `--filter "size>1gib": "1gib" is no size: write a number of bytes, or one with kb, mb, gb or tb, as in 1.5gb`},
		{filter: "size>-1", want: `--filter "size>-1": "-1" is no size: write a number of bytes, or one with kb, mb, gb or tb, as in 1.5gb`},
		{filter: "accessed>30", want: `--filter "accessed>30": "30" is no age: write a number with s, m, h, d, w, mo or y, as in 30d`},
		{filter: "accessed>1e3d", want: `--filter "accessed>1e3d": "1e3d" is no age: write a number with s, m, h, d, w, mo or y, as in 30d`},
		{filter: "type>model", want: `--filter "type>model": type is compared with = or !=, not with >`},
		{filter: "type=datasets", want: `--filter "type=datasets": unknown type "datasets", did you mean "dataset"? There are model, dataset, space, kernel`},
		{filter: "refs<main", want: `--filter "refs<main": refs is compared with = or !=, not with <`},
		{sort: "popularity", want: `--sort "popularity": unknown key "popularity": there are accessed, modified, name, size`},
		{sort: "acessed", want: `--sort "acessed": unknown key "acessed", did you mean "accessed"? There are accessed, modified, name, size`},
		{sort: "size:down", want: `--sort "size:down": unknown order "down": there are asc, desc`},
		{sort: "size:", want: `--sort "size:": it has no order: one of asc, desc`},
		{limit: -1, want: `--limit is -1; it must not be negative`},
	} {
		var filters []string
		if c.sort == "" && c.limit == 0 {
			filters = []string{c.filter}
		}
		_, err := query.Parse(filters, c.sort, c.limit, now())
		if err == nil {
			t.Errorf("no error where it should be: %s", c.want)
			continue
		}
		if diff := cmp.Diff(c.want, err.Error()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestUses(t *testing.T) {
	q, err := query.Parse([]string{"size>1", "refs=main"}, "modified", 0, now())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, key := range []string{"accessed", "modified", "refs", "size"} {
		got[key] = q.Uses(key)
	}
	if diff := cmp.Diff(map[string]bool{"accessed": false, "modified": true, "refs": true, "size": true}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestUnitsDoNotOverflow(t *testing.T) {
	size, err := query.ParseSize("99999999999999999999tb")
	if err != nil || size != math.MaxInt64 {
		t.Errorf("%d, %v", size, err)
	}
	age, err := query.ParseAge("1000000y")
	if err != nil || age != math.MaxInt64 {
		t.Errorf("%d, %v", age, err)
	}
}
