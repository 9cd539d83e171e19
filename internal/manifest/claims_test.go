package manifest_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
)

// hour is a time that is told apart from others by its number.
func hour(n int) time.Time { return time.Date(2026, 11, 1, n, 0, 0, 0, time.UTC) }

func claimed(refs, forced map[hub.Ref]time.Time) *manifest.Manifest {
	m := sample()
	m.Hub.Refs, m.Hub.Forced = refs, forced
	return m
}

func TestClaimsRoundTrip(t *testing.T) {
	want := claimed(map[hub.Ref]time.Time{"main": hour(1), "refs/pr/1": hour(2).Add(time.Nanosecond)}, map[hub.Ref]time.Time{"main": hour(3)})
	data, err := manifest.Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	const text = `"refs": {
      "main": "2026-11-01T01:00:00Z",
      "refs/pr/1": "2026-11-01T02:00:00.000000001Z"
    },
    "forced": {
      "main": "2026-11-01T03:00:00Z"
    }`
	if !strings.Contains(string(data), text) {
		t.Errorf("encoded: %s", data)
	}
	got, err := manifest.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestClaimsThatAreRefused(t *testing.T) {
	data, err := manifest.Encode(claimed(map[hub.Ref]time.Time{"main": hour(1)}, map[hub.Ref]time.Time{"dev": hour(1)}))
	if err != nil {
		t.Fatal(err)
	}
	for old, bad := range map[string]string{
		`"main": "2026-11-01T01:00:00Z"`: `"main": "yesterday"`, `"main"`: `"../main"`, `"dev"`: `""`, `"2026-11-01T01:00:00Z"`: `7`,
	} {
		if _, err := manifest.Decode([]byte(strings.Replace(string(data), old, bad, 1))); !errors.Is(err, manifest.ErrInvalid) {
			t.Errorf("%s: error is %v, want ErrInvalid", bad, err)
		}
	}
}

func TestRefTime(t *testing.T) {
	never := time.Time{}
	for _, test := range []struct {
		name                  string
		claim, forced, beside time.Time
		want                  time.Time
	}{
		{"nothing", never, never, never, never},
		{"only beside", never, never, hour(2), hour(2)},
		{"only a claim", hour(2), never, never, hour(2)},
		{"an earlier claim", hour(1), never, hour(2), hour(1)},
		{"a later claim", hour(3), never, hour(2), hour(2)},
		{"forced", hour(1), hour(5), hour(2), hour(5)},
		{"forced, claimed later", hour(9), hour(5), hour(9), hour(5)},
	} {
		m := claimed(map[hub.Ref]time.Time{}, map[hub.Ref]time.Time{})
		if !test.claim.IsZero() {
			m.Hub.Refs["main"] = test.claim
		}
		if !test.forced.IsZero() {
			m.Hub.Forced["main"] = test.forced
		}
		if got := m.RefTime("main", test.beside); !got.Equal(test.want) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if got := (*manifest.Manifest)(nil).RefTime("main", hour(2)); !got.Equal(hour(2)) {
		t.Errorf("without a manifest: %s", got)
	}
}

// In whatever order machines push, and however often, the earliest claim and the latest force are kept.
func TestMergeOfClaims(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		random := func() map[hub.Ref]time.Time {
			times := map[hub.Ref]time.Time{}
			for _, name := range []hub.Ref{"main", "dev", "v1"} {
				if r.IntN(2) == 0 {
					times[name] = hour(r.IntN(20))
				}
			}
			return times
		}
		want := claimed(map[hub.Ref]time.Time{}, map[hub.Ref]time.Time{})
		var machines []*manifest.Manifest
		for range 3 {
			m := claimed(random(), random())
			machines = append(machines, m)
			for name, at := range m.Hub.Refs {
				if known, ok := want.Hub.Refs[name]; !ok || at.Before(known) {
					want.Hub.Refs[name] = at
				}
			}
			for name, at := range m.Hub.Forced {
				if at.After(want.Hub.Forced[name]) {
					want.Hub.Forced[name] = at
				}
			}
		}
		machines = append(machines, machines[0])
		r.Shuffle(len(machines), func(i, j int) { machines[i], machines[j] = machines[j], machines[i] })
		merged := machines[0]
		for _, m := range machines[1:] {
			var err error
			if merged, err = manifest.Merge(m, merged); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want.Hub, merged.Hub); diff != "" {
			t.Fatalf("seed %d (-want +got):\n%s", seed, diff)
		}
		for _, m := range machines {
			if !merged.Covers(m) {
				t.Fatalf("seed %d: it does not cover %v, %v", seed, m.Hub.Refs, m.Hub.Forced)
			}
		}
	}
}
