package query

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/suggest"
)

// Row is what can be asked about one line of a listing.
type Row struct {
	Name     string    // "org/name", "datasets/org/name", perhaps with "@" and the commit
	Type     string    // "model", "dataset", "space" or "kernel"
	Size     int64     // bytes
	Accessed time.Time // zero if unknown
	Modified time.Time // zero if unknown
	Refs     []string
}

// Query is a checked request. The zero value is that for all rows in the order in which they are.
type Query struct {
	conditions []condition
	sortBy     string // empty: as they are
	descending bool
	limit      int // 0: all
	now        time.Time
}

// condition is one --filter.
type condition struct {
	key  string
	hold func(r Row, now time.Time) bool
}

// The keys of --filter and of --sort.
const (
	keyAccessed = "accessed"
	keyModified = "modified"
	keyName     = "name"
	keyRefs     = "refs"
	keySize     = "size"
	keyType     = "type"
)

// Parse checks the values of --filter, --sort and --limit. An empty sort keeps the order of the rows, a limit of 0 keeps all. now is what ages are counted from. The error
// says which flag and which value is wrong, and what was probably meant.
func Parse(filters []string, sort string, limit int, now time.Time) (*Query, error) {
	q := &Query{limit: limit, now: now}
	for _, text := range filters {
		c, err := parseFilter(text)
		if err != nil {
			return nil, fmt.Errorf("--filter %q: %w", text, err)
		}
		q.conditions = append(q.conditions, c)
	}
	if sort != "" {
		if err := q.parseSort(sort); err != nil {
			return nil, fmt.Errorf("--sort %q: %w", sort, err)
		}
	}
	if limit < 0 {
		return nil, fmt.Errorf("--limit is %d; it must not be negative", limit)
	}
	return q, nil
}

func (q *Query) parseSort(text string) error {
	key, order, ordered := strings.Cut(strings.TrimSpace(text), ":")
	key, order = strings.ToLower(key), strings.ToLower(order)
	if err := oneOf("key", key, keyAccessed, keyModified, keyName, keySize); err != nil {
		return err
	}
	q.sortBy, q.descending = key, key != keyName // the newest and the largest first, as hf has it
	if ordered {
		if err := oneOf("order", order, "asc", "desc"); err != nil {
			return err
		}
		q.descending = order == "desc"
	}
	return nil
}

// oneOf refuses a word that is not among those that are known, and says which was probably meant.
func oneOf(what, word string, known ...string) error {
	if slices.Contains(known, word) {
		return nil
	}
	all := strings.Join(known, ", ")
	switch near, ok := suggest.Nearest(word, known); {
	case word == "":
		return fmt.Errorf("it has no %s: one of %s", what, all)
	case ok:
		return fmt.Errorf("unknown %s %q, did you mean %q? There are %s", what, word, near, all)
	}
	return fmt.Errorf("unknown %s %q: there are %s", what, word, all)
}

// Uses says whether a filter or the order asks for the key "accessed", "modified", "name", "refs", "size" or "type".
func (q *Query) Uses(key string) bool {
	return q.sortBy == key || slices.ContainsFunc(q.conditions, func(c condition) bool { return c.key == key })
}

// Apply returns the rows that q asks for, in its order; rows that the order does not tell apart stay as they are. The argument is not changed. row describes one of them.
func Apply[T any](q *Query, rows []T, row func(T) Row) []T {
	type pair struct {
		value T
		row   Row
	}
	kept := []pair{}
	for _, v := range rows {
		if p := (pair{v, row(v)}); q.wants(p.row) {
			kept = append(kept, p)
		}
	}
	if q.sortBy != "" {
		slices.SortStableFunc(kept, func(a, b pair) int { return q.compare(a.row, b.row) })
	}
	if q.limit > 0 {
		kept = kept[:min(q.limit, len(kept))]
	}
	result := make([]T, len(kept))
	for i, p := range kept {
		result[i] = p.value
	}
	return result
}

func (q *Query) wants(r Row) bool {
	for _, c := range q.conditions {
		if !c.hold(r, q.now) {
			return false
		}
	}
	return true
}

func (q *Query) compare(a, b Row) int {
	var c int
	switch q.sortBy {
	case keyAccessed:
		c = a.Accessed.Compare(b.Accessed)
	case keyModified:
		c = a.Modified.Compare(b.Modified)
	case keySize:
		c = cmp.Compare(a.Size, b.Size)
	case keyName:
		c = cmp.Compare(a.Name, b.Name)
	}
	if q.descending {
		return -c
	}
	return c
}

// operators are those of a filter. Without one, a shell has probably eaten it.
func operators() []string { return []string{"=", "!=", ">", "<", ">=", "<="} }

var errNoOperator = errors.New("it has no operator, one of = != > < >= <=; if a shell took the > or < for itself, put the filter in quotes: 'size>1gb'")

// split cuts "key op value" into its parts.
func split(text string) (key, op, value string, err error) {
	const signs = "=!<>"
	i := strings.IndexAny(text, signs)
	if i < 0 {
		return strings.ToLower(strings.TrimSpace(text)), "", "", errNoOperator
	}
	rest := strings.TrimLeft(text[i:], signs)
	key, op, value = strings.ToLower(strings.TrimSpace(text[:i])), text[i:len(text)-len(rest)], strings.TrimSpace(rest)
	if !slices.Contains(operators(), op) {
		return key, op, value, fmt.Errorf("unknown operator %q: there are %s", op, strings.Join(operators(), " "))
	}
	return key, op, value, nil
}

func parseFilter(text string) (condition, error) {
	key, op, value, err := split(text)
	if wrong := oneOf("key", key, keyAccessed, keyModified, keyRefs, keySize, keyType); wrong != nil {
		return condition{}, wrong // even if the operator is wrong too: the key comes first
	}
	if err != nil {
		return condition{}, err
	}
	if value == "" {
		return condition{}, fmt.Errorf("nothing follows the %s", op)
	}
	c := condition{key: key}
	switch key {
	case keySize:
		size, err := ParseSize(value)
		if err != nil {
			return c, err
		}
		c.hold = func(r Row, _ time.Time) bool { return holds(op, cmp.Compare(r.Size, size)) }
	case keyAccessed, keyModified:
		age, err := ParseAge(value)
		if err != nil {
			return c, err
		}
		c.hold = func(r Row, now time.Time) bool {
			at := r.Modified
			if key == keyAccessed {
				at = r.Accessed
			}
			// A time in the future is as young as can be: clocks differ.
			return !at.IsZero() && holds(op, cmp.Compare(max(0, now.Sub(at)), age))
		}
	default:
		return parseWord(c, key, op, value)
	}
	return c, nil
}

// parseWord is for the keys whose values have no order.
func parseWord(c condition, key, op, value string) (condition, error) {
	if op != "=" && op != "!=" {
		return c, fmt.Errorf("%s is compared with = or !=, not with %s", key, op)
	}
	if key == keyType {
		if err := oneOf("type", strings.ToLower(value), "model", "dataset", "space", "kernel"); err != nil {
			return c, err
		}
	}
	c.hold = func(r Row, _ time.Time) bool {
		words := r.Refs
		if key == keyType {
			words = []string{r.Type}
		}
		return (op == "=") == slices.ContainsFunc(words, func(w string) bool { return strings.EqualFold(w, value) })
	}
	return c, nil
}

// holds says whether an operator is satisfied by how its left side compares with its right.
func holds(op string, c int) bool {
	switch op {
	case "=":
		return c == 0
	case "!=":
		return c != 0
	case ">":
		return c > 0
	case "<":
		return c < 0
	case ">=":
		return c >= 0
	default:
		return c <= 0
	}
}
