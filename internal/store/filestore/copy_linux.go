package filestore

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyInKernel copies what it can of a body that is a part of a file, by reflink where the file system has them, and returns how many
// bytes that was. What is left, with whatever error it may have, is for the caller to copy.
func copyInKernel(ctx context.Context, dst *os.File, at int64, body *io.SectionReader) (int64, error) {
	outer, from, size := body.Outer()
	src, ok := outer.(*os.File)
	if !ok {
		return 0, nil
	}
	const most = 64 << 20 // Between two looks at the context.
	var done int64
	for done < size {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		roff, woff := from+done, at+done
		n, err := unix.CopyFileRange(int(src.Fd()), &roff, int(dst.Fd()), &woff, int(min(most, size-done)), 0)
		if err != nil || n <= 0 {
			break
		}
		done += int64(n)
	}
	return done, nil //nolint:nilerr // what the kernel cannot copy is copied by hand
}
