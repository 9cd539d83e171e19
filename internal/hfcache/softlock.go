package hfcache

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

// Where flock is not implemented, clients take a lock by the existence of its file, which says who holds it (filelock >= 3.22 _soft.py, _identity.py). It goes with its
// holder only if that ends in good order, so whoever finds one left by a dead process of the same machine takes it away.
const (
	maxSoftRecord = 1024 // bytes; filelock reads no longer one
	// softPatience is how many looks, [lockPoll] apart, a file may stay the same that says nothing that makes sense, before it counts as left behind by a crash: 2 s.
	softPatience    = 40
	initialPIDSpace = "pid:[4026531836]"  // PID_NS_INIT_INO of Linux include/linux/proc_ns.h
	initialTimeNS   = "time:[4026531834]" // TIME_NS_INIT_INO
	pidSpaceMark    = "?pidns-"
)

// lockSoft waits for a lock by existence.
func (l *locker) lockSoft(ctx context.Context) (unlock func(), err error) {
	host, err := os.Hostname()
	if err != nil {
		return func() {}, nil //nolint:nilerr // nobody could tell whose lock it is
	}
	s := softLock{root: l.root, rel: l.rel, host: newSoftHost("/proc", host)}
	err = l.poll(ctx, func() (err error) {
		unlock, err = s.try()
		return err
	})
	if errors.Is(err, fs.ErrPermission) {
		return func() {}, nil
	}
	return unlock, err
}

// softLock is one wait for such a lock.
type softLock struct {
	root *os.Root
	rel  string
	host *softHost
	// odd is the last file that made no sense, and oddFor how often in a row it was found unchanged.
	odd    fs.FileInfo
	oddFor int
	// tried, if not zero, is the time of the only look there will be, at a lock that only this program takes. What makes no sense is then judged by its age.
	tried time.Time
}

// try takes the lock. The error wraps [ErrBusy] if somebody has it.
func (s *softLock) try() (unlock func(), _ error) {
	const tries = 4 // each means that somebody else was faster
	for range tries {
		unlock, err := s.create()
		if !errors.Is(err, fs.ErrExist) {
			return unlock, err
		}
		gone, err := s.takeAway()
		if err != nil {
			return nil, err
		}
		if !gone {
			break
		}
	}
	return nil, ErrBusy
}

func (s *softLock) create() (unlock func(), _ error) {
	// Contenders act on what it says, so nobody else may write it, however the cache is shared.
	f, err := s.root.OpenFile(s.rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	_ = f.Chmod(0o644) // the umask has had its say, and others must be able to read it
	if _, err := f.WriteString(s.host.record()); err != nil {
		return nil, errors.Join(err, s.root.Remove(s.rel), f.Close())
	}
	return func() { s.release(f) }, nil
}

// release removes the file if it is still ours.
func (s *softLock) release(f *os.File) {
	if isAt(s.root, s.rel, f) {
		_ = s.root.Remove(s.rel)
	} else if _, err := f.WriteAt([]byte("filelock/released\n"), 0); err == nil {
		// A contender that took it for another file has moved it aside, and will put it back. This tells everybody that it is of no use any more, as filelock does.
		_ = f.Truncate(int64(len("filelock/released\n")))
	}
	_ = f.Close() // whatever it says, nobody needs what was written
}

// takeAway looks who holds the lock and removes the file if that is nobody. It says whether the name is free now.
func (s *softLock) takeAway() (gone bool, _ error) {
	f, err := openRegular(s.root, s.rel, os.O_RDONLY) // as long as it is open, no other file gets its inode
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true, nil
	case errors.Is(err, fs.ErrPermission):
		return false, nil // so nobody can tell
	case err != nil:
		return false, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxSoftRecord+1))
	if err != nil {
		return false, err
	}
	if len(text) == 0 && s.tried.IsZero() {
		return false, nil // all that filelock before 3.22 writes: held as long as it is there
	}
	if holder, ok := parseSoftHolder(text); ok {
		s.odd = nil
		return s.host.isGone(holder) && s.moveAway(info), nil
	}
	return s.isOddForLong(info) && s.moveAway(info), nil
}

// isOddForLong says whether a file that makes no sense has been like this for so long that it is not just being written.
func (s *softLock) isOddForLong(info fs.FileInfo) bool {
	if !s.tried.IsZero() {
		return s.tried.Sub(info.ModTime()) > softProcessOdd
	}
	if s.odd == nil || !sameVersion(s.odd, info) {
		s.odd, s.oddFor = info, 0
	}
	s.oddFor++
	return s.oddFor > softPatience
}

func sameVersion(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

// moveAway removes the file that was judged. Of several contenders that judged the same one, one moves it aside; another one can then have moved the first one's new lock, which goes
// back. filelock itself swaps the two files where the system can; where it cannot, as on Lustre, it would leave the lock for ever.
func (s *softLock) moveAway(judged fs.FileInfo) (gone bool) {
	info, err := s.root.Lstat(s.rel)
	if err != nil || !sameVersion(judged, info) {
		return errors.Is(err, fs.ErrNotExist)
	}
	return s.moveAside(judged)
}

func (s *softLock) moveAside(judged fs.FileInfo) (gone bool) {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails
	aside := fmt.Sprintf("%s.break.%d.%s", s.rel, s.host.pid, hex.EncodeToString(random[:]))
	if err := s.root.Rename(s.rel, aside); err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	info, err := s.root.Lstat(aside)
	if err == nil && !sameVersion(judged, info) {
		if err := s.root.Link(aside, s.rel); err != nil && !errors.Is(err, fs.ErrExist) {
			_ = s.root.Rename(aside, s.rel) // no hard links here
			return false
		}
		_ = s.root.Remove(aside)
		return false
	}
	_ = s.root.Remove(aside) // if it stays, it is in nobody's way
	return true
}

// softHolder is who holds such a lock.
type softHolder struct {
	pid  int
	host string
	// start tells apart processes that had the same number one after the other; nil if it is not known.
	start *big.Int
}

// parseSoftHolder reads what filelock writes: the process, the host, and in newer versions the start of the process, a line each.
func parseSoftHolder(text []byte) (softHolder, bool) {
	if len(text) > maxSoftRecord || !utf8.Valid(text) || !bytes.HasSuffix(text, []byte("\n")) {
		return softHolder{}, false
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) < 2 || len(lines) > 3 {
		return softHolder{}, false
	}
	pid, err := strconv.ParseUint(lines[0], 10, 31)
	holder := softHolder{pid: int(pid), host: lines[1]}
	if len(lines) == 3 {
		start, ok := new(big.Int).SetString(lines[2], 10)
		if !ok || strings.Trim(lines[2], "0123456789") != "" {
			return softHolder{}, false
		}
		holder.start = start
	}
	return holder, err == nil && pid > 0
}

// softHost is this machine, as far as it can tell whether a holder still runs.
type softHost struct {
	proc  string // where Linux tells about processes
	name  string
	pid   int
	alive func(pid int) bool
}

func newSoftHost(proc, host string) *softHost {
	return &softHost{proc: proc, name: softHostName(proc, host), pid: os.Getpid(), alive: processAlive}
}

// softHostName is how filelock names a machine: with what is no printable ASCII escaped, and with the namespace in which the numbers of processes count.
func softHostName(proc, host string) string {
	var name strings.Builder
	for _, c := range []byte(host) {
		if c > ' ' && c < 0x7F && c != '?' {
			name.WriteByte(c)
		} else {
			fmt.Fprintf(&name, "?%02x", c)
		}
	}
	if space, err := os.Readlink(filepath.Join(proc, "self/ns/pid")); err == nil && space != initialPIDSpace {
		if id, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(space, "pid:["), "]"), 10, 64); err == nil {
			name.WriteString(pidSpaceMark + strconv.FormatUint(id, 16))
		}
	}
	const limit, digits = 253, 8
	text := name.String()
	if len(text) > limit {
		sum := sha256.Sum256([]byte(text[limit-digits-1:]))
		text = text[:limit-digits-1] + "-" + hex.EncodeToString(sum[:])[:digits]
	}
	if text == "" {
		return "?"
	}
	return text
}

// record is what the file of a lock of ours says.
func (h *softHost) record() string {
	text := fmt.Sprintf("%d\n%s\n", h.pid, h.name)
	if start := h.start(h.pid); start != nil {
		text += start.String() + "\n"
	}
	return text
}

// isGone says whether a holder is known to have ended. One on another machine never is.
func (h *softHost) isGone(holder softHolder) bool {
	if holder.host != h.name {
		return false
	}
	if h.alive(holder.pid) {
		current := h.start(holder.pid)
		if holder.start == nil || current == nil || sameStart(current, holder.start) {
			return false
		}
	}
	// Only a name without the mark can be that of a container with this machine's name, as filelock before 4 wrote it.
	return strings.Contains(h.name, pidSpaceMark) || !h.runsElsewhere(holder)
}

const startBits = 64 // below them the start since boot in ticks, above them which boot

// start is when a process began: the ticks since boot, with the boot's id above. It is nil where that cannot be told.
func (h *softHost) start(pid int) *big.Int {
	if space, err := os.Readlink(filepath.Join(h.proc, "self/ns/time")); !errors.Is(err, fs.ErrNotExist) && (err != nil || space != initialTimeNS) {
		return nil // the kernel shifts what this process reads
	}
	text, err := os.ReadFile(filepath.Join(h.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	const startTime = 19 // after the name, which ends with the last parenthesis (proc_pid_stat(5))
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) <= startTime {
		return nil
	}
	ticks, err := strconv.ParseUint(string(fields[startTime]), 10, 64)
	if err != nil {
		return nil
	}
	start := new(big.Int).Lsh(h.boot(), startBits)
	return start.Add(start, new(big.Int).SetUint64(ticks))
}

// boot is the boot's id; 0 if it is not told.
func (h *softHost) boot() *big.Int {
	text, err := os.ReadFile(filepath.Join(h.proc, "sys/kernel/random/boot_id"))
	if err == nil {
		if id, ok := new(big.Int).SetString(strings.ReplaceAll(strings.TrimSpace(string(text)), "-", ""), 16); ok {
			return id
		}
	}
	return new(big.Int)
}

// sameStart compares two starts; a missing boot id says nothing.
func sameStart(a, b *big.Int) bool {
	if a.Cmp(b) == 0 {
		return true
	}
	bootA, bootB := new(big.Int).Rsh(a, startBits), new(big.Int).Rsh(b, startBits)
	if bootA.Sign() != 0 && bootB.Sign() != 0 {
		return false
	}
	low := new(big.Int).SetUint64(^uint64(0))
	return new(big.Int).And(a, low).Cmp(new(big.Int).And(b, low)) == 0
}

// runsElsewhere says whether the holder runs in a container of this machine, where its number was another one.
func (h *softHost) runsElsewhere(holder softHolder) bool {
	if holder.start == nil {
		return false
	}
	processes, err := os.ReadDir(h.proc)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(processes, func(e fs.DirEntry) bool {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == holder.pid {
			return false
		}
		start := h.start(pid)
		return start != nil && sameStart(start, holder.start) && h.innermost(pid) == holder.pid
	})
}

// innermost is a process's number in the namespace in which it runs; 0 if it is not told.
func (h *softHost) innermost(pid int) int {
	text, err := os.ReadFile(filepath.Join(h.proc, strconv.Itoa(pid), "status"))
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if numbers, ok := strings.CutPrefix(line, "NSpid:"); ok {
			if fields := strings.Fields(numbers); len(fields) > 0 {
				number, _ := strconv.Atoi(fields[len(fields)-1]) // 0 if it is none
				return number
			}
		}
	}
	return 0
}

// processAlive says whether there is a process with that number, whosever it is.
func processAlive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return true // it cannot be told
	}
	defer p.Release() //nolint:errcheck // nothing was done with it
	err = p.Signal(syscall.Signal(0))
	return !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH)
}
