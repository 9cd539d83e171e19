package plan_test

import (
	"math"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

func TestUploadPart(t *testing.T) {
	const mib = 1 << 20
	for size, want := range map[int64]int64{0: 16 * mib, 1: 16 * mib, 160_000 * mib: 16 * mib, 160_000*mib + 1: 17 * mib, 5 << 40: 525 * mib} {
		if got := plan.UploadPart(size); got != want {
			t.Errorf("%d bytes in parts of %d, want %d", size, got, want)
		}
	}
	if got := plan.UploadPart(math.MaxInt64); got < math.MaxInt64/10_000 {
		t.Errorf("the largest number of bytes in parts of %d", got)
	}
}
