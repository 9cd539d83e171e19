package query_test

import (
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/query"
)

func FuzzParse(f *testing.F) {
	f.Add("size>1gb", "accessed:desc", 3)
	f.Fuzz(func(t *testing.T, filter, sort string, limit int) {
		q, err := query.Parse([]string{filter}, sort, limit, now())
		if err != nil {
			return
		}
		// A filter that was accepted can be applied, and its key is known.
		got := query.Apply(q, rows(), func(r query.Row) query.Row { return r })
		if len(got) > len(rows()) || (limit > 0 && len(got) > limit) {
			t.Errorf("%q gives %d rows", filter, len(got))
		}
		if !q.Uses("accessed") && !q.Uses("modified") && !q.Uses("refs") && !q.Uses("size") && !q.Uses("type") {
			t.Errorf("%q was accepted and asks for nothing", filter)
		}
	})
}

// FuzzUnits reads sizes and ages: what is accepted is never negative, and white space and capitals make no difference.
func FuzzUnits(f *testing.F) {
	f.Add("1.5gb")
	f.Fuzz(func(t *testing.T, text string) {
		size, err := query.ParseSize(text)
		again, err2 := query.ParseSize(" " + text + " ")
		if size < 0 || (err == nil) != (err2 == nil) || size != again {
			t.Errorf("%q is %d bytes, %v, and with spaces %d, %v", text, size, err, again, err2)
		}
		if age, err := query.ParseAge(text); age < 0 || (err != nil && age != 0) {
			t.Errorf("%q is %v, %v", text, age, err)
		}
	})
}
