package cli

import (
	"strconv"
	"strings"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/query"
	"github.com/hf-cache-sync/hf-cache-sync/internal/ui"
)

// age is the value of a flag such as --older-than.
type age time.Duration

// String is for help texts.
func (a *age) String() string {
	if *a == 0 {
		return ""
	}
	return ui.Duration(time.Duration(*a))
}

// Type names the value in help texts.
func (*age) Type() string { return "age" }

// Set reads a length of time such as "30d"; a bare 0 needs no unit.
func (a *age) Set(text string) error {
	if strings.TrimSpace(text) == "0" {
		*a = 0
		return nil
	}
	d, err := query.ParseAge(text)
	if err == nil {
		*a = age(d)
	}
	return err
}

// byteSize is the value of a flag such as --max-size.
type byteSize int64

// String is what Set understands.
func (s *byteSize) String() string { return strconv.FormatInt(int64(*s), 10) }

// Type names the value in help texts.
func (*byteSize) Type() string { return "size" }

// Set reads a number of bytes such as "50GB".
func (s *byteSize) Set(text string) error {
	n, err := query.ParseSize(text)
	if err == nil {
		*s = byteSize(n)
	}
	return err
}
