package hfcache

import (
	"context"
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The FIEMAP call and what it answers (Linux include/uapi/linux/fiemap.h; Documentation/filesystems/fiemap.rst).
const (
	fsIocFiemap    = 0xC020660B
	fiemapHead     = 32 // bytes of struct fiemap before the extents
	fiemapExtent   = 56 // bytes of struct fiemap_extent
	fiemapLast     = 0x1
	fiemapShared   = 0x2000
	extentsPerCall = 512
	extentCalls    = 4096 // a file with more extents than fit into so many calls is not worth the time
	btrfsMagic     = 0x9123683E
	xfsMagic       = 0x58465342
	bcachefsMagic  = 0xCA451A4E
	worthExtents   = 1 << 20 // bytes; what smaller files share does not matter
)

// sharedBytes asks how much of each large file other files share, where the file system can clone.
func (c *Cache) sharedBytes(ctx context.Context, inv *Inventory, payloads []Payload) map[string]int64 {
	shared, asked := map[string]int64{}, map[string]bool{}
	if !c.clones() {
		return shared
	}
	ask := func(place string, disk int64) {
		if asked[place] || disk < worthExtents || ctx.Err() != nil {
			return
		}
		asked[place] = true
		// A file shares no more than it has, whatever the file system counts.
		if n := min(c.sharedExtents(place), disk); n > 0 {
			shared[place] = n
		}
	}
	for _, p := range payloads {
		ask(p.Place, p.Disk)
	}
	for _, repo := range inv.Repos {
		for _, b := range repo.Blobs {
			ask(b.Bytes, b.Disk)
		}
		for _, rev := range repo.Revisions {
			for _, f := range rev.Files {
				ask(f.Bytes, f.Disk)
			}
		}
	}
	return shared
}

// clones says whether the file system is one of those on which copies can share their blocks.
func (c *Cache) clones() bool {
	dir, err := c.root.Open(".")
	if err != nil {
		return false
	}
	defer dir.Close() //nolint:errcheck // only asked
	var stat unix.Statfs_t
	if err := withDescriptor(dir, func(fd uintptr) error { return unix.Fstatfs(int(fd), &stat) }); err != nil {
		return false
	}
	switch uint32(stat.Type) { //nolint:gosec // its type differs between processors
	case btrfsMagic, xfsMagic, bcachefsMagic:
		return true
	}
	return false
}

func (c *Cache) sharedExtents(place string) (shared int64) {
	f, err := c.OpenBytes(place)
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // only asked
	buf := make([]byte, fiemapHead+extentsPerCall*fiemapExtent)
	var start uint64
	for range extentCalls {
		next, bytes, last := fiemap(f, buf, start)
		shared += bytes
		if last || next <= start {
			break
		}
		start = next
	}
	return shared
}

// fiemap asks for the extents from start on. It returns where they end, how many of their bytes are shared, and whether they are the last.
func fiemap(f *os.File, buf []byte, start uint64) (next uint64, shared int64, last bool) {
	clear(buf[:fiemapHead])
	order := binary.NativeEndian
	order.PutUint64(buf[0:], start)
	order.PutUint64(buf[8:], ^uint64(0)-start)
	order.PutUint32(buf[24:], extentsPerCall)
	err := withDescriptor(f, func(fd uintptr) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, fsIocFiemap, uintptr(unsafe.Pointer(&buf[0]))); errno != 0 { //nolint:gosec // the call takes a pointer
			return errno
		}
		return nil
	})
	if err != nil {
		return 0, 0, true
	}
	return extents(buf, order)
}

// extents reads the answer.
func extents(buf []byte, order binary.ByteOrder) (next uint64, shared int64, last bool) {
	mapped := min(order.Uint32(buf[20:]), extentsPerCall)
	if mapped == 0 {
		return 0, 0, true
	}
	for i := range mapped {
		e := buf[fiemapHead+int(i)*fiemapExtent:]
		logical, length, flags := order.Uint64(e[0:]), order.Uint64(e[16:]), order.Uint32(e[40:])
		if flags&fiemapShared != 0 {
			shared += int64(length) //nolint:gosec // no file is that long
		}
		next, last = logical+length, flags&fiemapLast != 0
	}
	return next, shared, last
}
