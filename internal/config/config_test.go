package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
)

type vars map[string]string

func (v vars) lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}

func TestFlag(t *testing.T) {
	env := vars{"HF_CACHE_SYNC_DRY_RUN": "true\r", "HF_CACHE_SYNC_REMOTE": "", "DRY_RUN": "no"}
	for name, want := range map[string]string{"dry-run": "true", "remote": "", "workers": ""} {
		got, ok := config.Flag(env.lookup, name)
		if got != want || ok != (want != "") {
			t.Errorf("Flag(%q) = %q, %v; want %q", name, got, ok, want)
		}
	}
}

func TestTruthy(t *testing.T) {
	got := map[string]bool{}
	want := map[string]bool{"1": true, "on": true, "Yes": true, "TRUE": true, "": false, "0": false, "no": false, "y": false, "t": false, "1 1": false}
	for v := range want {
		got[v] = config.Truthy(v)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
