package cli

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/hf-cache-sync/hf-cache-sync/internal/query"
)

// byteRate is the value of --bwlimit: bytes per second, 0 for no limit.
type byteRate int64

// String is what Set understands.
func (r *byteRate) String() string { return strconv.FormatInt(int64(*r), 10) }

// Type names the value in help texts.
func (r *byteRate) Type() string { return "rate" }

var errRate = errors.New("write a number of bytes a second, such as 50MB, 1.5GB/s or 20MiB; 0 is no limit")

// Set reads a rate. Units are decimal, as everywhere else, but for those that say that they are not.
func (r *byteRate) Set(text string) error {
	size := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(text)), "/s")
	factor := int64(1)
	for i, unit := range []string{"ki", "mi", "gi", "ti"} {
		if number, ok := strings.CutSuffix(strings.TrimSuffix(size, "b"), unit); ok {
			const bits = 10
			size, factor = number, 1<<(bits*(i+1))
			break
		}
	}
	if factor > 1 && strings.Trim(size, "0123456789.") != "" {
		return errRate
	}
	n, err := strconv.ParseFloat(size, 64)
	if factor == 1 {
		var bytes int64
		bytes, err = query.ParseSize(size)
		n = float64(bytes)
	}
	switch n *= float64(factor); {
	case err != nil || n > 0 && n < 1:
		return errRate
	case n >= math.MaxInt64:
		n = 0 // nothing is that fast
	}
	*r = byteRate(n)
	return nil
}

// rangesFor is how many requests at once one large blob gets under a limit. They share it, so that with few of them parts are finished one after the other, and an
// interrupted transfer has something to carry on from. 0 is the default.
func (r byteRate) rangesFor() int {
	const (
		perRange = 10e6 // what one connection moves easily
		most     = 8
	)
	if r <= 0 {
		return 0
	}
	return min(most, 1+int(r/perRange))
}
