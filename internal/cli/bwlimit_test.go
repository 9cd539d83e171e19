package cli

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestByteRate(t *testing.T) {
	want := map[string]int64{
		"0": 0, "1": 1, "1500": 1500, "50MB": 50e6, "50M": 50e6, "50mb/s": 50e6, "50 MB/s": 50e6, "1.5GB/s": 1.5e9, "2k": 2000, "1b": 1,
		"20KiB": 20 << 10, "1.5MiB/s": 3 << 19, "1gi": 1 << 30, "2TiB": 2 << 40, "99999999999999TB": 0,
	}
	got := map[string]int64{}
	for text := range want {
		r := byteRate(-1)
		if err := r.Set(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		got[text] = int64(r)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, text := range []string{"", "-1", "-1MiB", "fast", "50 miles", "MB", "MiB", "0.4KB/s/s", "0.0001KiB", "1e3", "NaN", "nanMiB", "50MB/h", "/s", "infMiB", "50MBB"} {
		r := byteRate(7)
		if err := r.Set(text); err == nil {
			t.Errorf("%q is taken for %d", text, r)
		} else if r != 7 {
			t.Errorf("%q is refused, and sets %d", text, r)
		}
	}
}

func TestRangesUnderALimit(t *testing.T) {
	for rate, want := range map[byteRate]int{0: 0, 1: 1, 9e6: 1, 10e6: 2, 65e6: 7, 80e6: 8, 1e12: 8} {
		if got := rate.rangesFor(); got != want {
			t.Errorf("%d/s: %d requests at once, want %d", rate, got, want)
		}
	}
}
