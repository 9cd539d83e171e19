//go:build linux && (amd64 || arm64)

package powerloss

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watcher is told of the system calls of [watched], of all threads, in an order
// in which a call that could know of the end of another one begins after it.
type watcher interface {
	// alone says whether a call is one whose effect others can see before its
	// end. Of these only one is carried out at a time.
	alone(tid int, c call) bool
	// enter is a call that is about to be carried out. If it says false the
	// end of the call is not of interest.
	enter(tid int, c call) bool
	// leave is the end of a call that enter was told of.
	leave(tid int, result int64)
	// gone says that a thread has ended, perhaps inside of a call.
	gone(tid int)
	// enough says that the program is to be killed now.
	enough() bool
}

// call is a system call: its number and its arguments as the kernel sees them.
type call struct {
	nr   int
	args [6]uint64
}

// launchVariable makes the test binary install the filter and become the
// program that its arguments name.
const launchVariable = "HFCS_POWERLOSS_LAUNCH"

// Launch does nothing, unless this process was started by [run] to become the
// program to watch. A TestMain has to call it first.
func Launch() {
	if os.Getenv(launchVariable) == "" {
		return
	}
	// A filter belongs to the thread that installs it, and exec keeps it.
	runtime.LockOSThread()
	err := install(watched())
	if err == nil {
		err = fmt.Errorf("starting %s: %w", os.Args[1], syscall.Exec(os.Args[1], os.Args[1:], withoutLaunch(os.Environ())))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(125)
}

func withoutLaunch(env []string) []string {
	var kept []string
	for _, v := range env {
		if !strings.HasPrefix(v, launchVariable+"=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// install makes the kernel stop this thread for its tracer before each of the
// calls. All others run at full speed.
func install(calls []int) error {
	const (
		offsetNr   = 0
		offsetArch = 4
		dataBits   = 0xffff
	)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetArch},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: auditArch, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_KILL_PROCESS},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offsetNr},
	}
	for _, nr := range calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(nr), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_TRACE | 1&dataBits},
		)
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program))); errno != 0 {
		return fmt.Errorf("installing a filter of system calls: %w", errno)
	}
	return nil
}

// tracer follows one process with all its threads.
type tracer struct {
	watcher watcher
	main    int
	inside  map[int]bool // threads between the two stops of a call
	holder  int          // the thread that is alone in its call, or 0
	waiting []int        // threads that wait for that
	known   map[int]bool
	killed  bool
}

// run starts a program, by way of this test's binary, and tells w of its calls.
// It returns the exit code, or -1 if the program was killed because w had
// enough.
func run(w watcher, args, env []string, dir string, stdout, stderr *os.File) (code int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("finding the test's own binary: %w", err)
	}
	type outcome struct {
		code int
		err  error
	}
	done := make(chan outcome)
	go func() {
		// Only the thread that started a process may trace it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		code, err := trace(w, self, args, env, dir, stdout, stderr)
		done <- outcome{code, err}
	}()
	o := <-done
	return o.code, o.err
}

func trace(w watcher, self string, args, env []string, dir string, stdout, stderr *os.File) (int, error) {
	process, err := os.StartProcess(self, append([]string{self}, args...), &os.ProcAttr{
		Dir: dir, Env: append([]string{launchVariable + "=1"}, env...), Files: []*os.File{nil, stdout, stderr},
		Sys: &syscall.SysProcAttr{Ptrace: true, Setpgid: true, Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("starting under ptrace, which has to be allowed: %w", err)
	}
	t := &tracer{watcher: w, main: process.Pid, inside: map[int]bool{}, known: map[int]bool{process.Pid: true}}
	defer func() { _ = process.Release() }() // The tracer waits itself.
	var status unix.WaitStatus
	if _, err = wait(t.main, &status); err != nil {
		return 0, err
	}
	const options = unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK |
		unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_EXITKILL
	if err = unix.PtraceSetOptions(t.main, options); err == nil {
		err = unix.PtraceCont(t.main, 0)
	}
	if err != nil {
		_ = unix.Kill(t.main, unix.SIGKILL) // The first error matters.
		return 0, fmt.Errorf("tracing: %w", err)
	}
	return t.loop()
}

// wait waits for that child of this thread, or, if pid is negative, for one of
// that group of processes.
func wait(pid int, status *unix.WaitStatus) (int, error) {
	for {
		got, err := unix.Wait4(pid, status, unix.WALL|unix.WNOTHREAD, nil)
		if !errors.Is(err, unix.EINTR) {
			return got, err //nolint:wrapcheck // The callers look at it.
		}
	}
}

func (t *tracer) loop() (int, error) {
	code := 0
	for {
		var status unix.WaitStatus
		// By the group: this thread can have other children, which it started
		// before it was locked.
		tid, err := wait(-t.main, &status)
		switch {
		case errors.Is(err, unix.ECHILD):
			return code, nil
		case err != nil:
			return 0, fmt.Errorf("waiting for the traced program: %w", err)
		case status.Stopped():
			if err := t.stopped(tid, status); err != nil && !errors.Is(err, unix.ESRCH) { // else it was killed meanwhile
				_ = unix.Kill(t.main, unix.SIGKILL) // The first error matters.
				return 0, fmt.Errorf("tracing: %w", err)
			}
			continue
		}
		t.watcher.gone(tid)
		delete(t.inside, tid)
		if err := t.release(tid); err != nil {
			return 0, fmt.Errorf("tracing: %w", err)
		}
		if tid == t.main {
			code = status.ExitStatus()
			if status.Signaled() {
				code = -1
			}
		}
	}
}

// stopped looks why a thread has stopped, and lets it go on.
func (t *tracer) stopped(tid int, status unix.WaitStatus) error {
	const (
		syscallStop = unix.SIGTRAP | 0x80
		eventShift  = 8
	)
	signal, event := status.StopSignal(), int(status)>>eventShift>>eventShift
	first := !t.known[tid]
	t.known[tid] = true
	switch {
	case signal == unix.SIGTRAP && event == unix.PTRACE_EVENT_SECCOMP:
		return t.entered(tid)
	case signal == syscallStop && t.inside[tid]:
		delete(t.inside, tid)
		info, err := syscallInfo(tid)
		if err != nil {
			return err
		}
		t.watcher.leave(tid, int64(info.A))
		if t.watcher.enough() && !t.killed {
			t.killed = true
			return unix.Kill(t.main, unix.SIGKILL) //nolint:wrapcheck // The caller does.
		}
		return errors.Join(resume(unix.PTRACE_CONT, tid, 0), t.release(tid))
	case signal == unix.SIGTRAP && event != 0, signal == syscallStop, signal == unix.SIGSTOP && first:
		return resume(unix.PTRACE_CONT, tid, 0)
	default:
		return resume(unix.PTRACE_CONT, tid, int(signal))
	}
}

// entered lets a thread begin its call, or wait with it.
func (t *tracer) entered(tid int) error {
	info, err := syscallInfo(tid)
	if err != nil {
		return err
	}
	c := info.call()
	if t.watcher.alone(tid, c) {
		if t.holder != 0 {
			t.waiting = append(t.waiting, tid)
			return nil
		}
		t.holder = tid
	}
	if t.watcher.enter(tid, c) {
		t.inside[tid] = true
		return resume(unix.PTRACE_SYSCALL, tid, 0)
	}
	return errors.Join(resume(unix.PTRACE_CONT, tid, 0), t.release(tid))
}

// release lets the next thread be alone in its call, if tid was.
func (t *tracer) release(tid int) error {
	if t.holder != tid {
		return nil
	}
	t.holder = 0
	for t.holder == 0 && len(t.waiting) > 0 {
		next := t.waiting[0]
		t.waiting = t.waiting[1:]
		if err := t.entered(next); err != nil && !errors.Is(err, unix.ESRCH) { // else it was killed meanwhile
			return err
		}
	}
	return nil
}

// resume lets a thread go on. It is the same request with or without a stop at
// the end of the call.
func resume(request, tid, signal int) error {
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, uintptr(signal), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// info is struct ptrace_syscall_info of ptrace(2). A is the number of the call,
// or what it returned.
type info struct {
	Op   uint8
	_    [3]uint8
	Arch uint32
	_    [2]uint64
	A    uint64
	Args [6]uint64
	_    [2]uint64
}

func (i *info) call() call { return call{nr: int(i.A), args: i.Args} }

func syscallInfo(tid int) (*info, error) {
	var i info
	if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(i), uintptr(unsafe.Pointer(&i)), 0, 0); errno != 0 {
		return nil, fmt.Errorf("asking about a system call, which needs Linux 5.3: %w", errno)
	}
	return &i, nil
}

// text reads a string of the traced program.
func text(tid int, at uint64) (string, error) {
	const page = 4096
	var all []byte
	for len(all) < unix.PathMax {
		buf := make([]byte, page-at%page) // The next page may not be there.
		local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
		n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
		if err != nil {
			return "", fmt.Errorf("reading the memory of the traced program: %w", err)
		}
		if before, _, found := strings.Cut(string(buf[:n]), "\x00"); found {
			return string(all) + before, nil
		}
		all = append(all, buf[:n]...)
		at += uint64(n)
	}
	return "", errors.New("a path without an end")
}

// flags reads the flags of an openat2, the first field of its struct open_how.
func flags(tid int, at uint64) (uint64, error) {
	var buf [8]byte
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
	if _, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0); err != nil {
		return 0, fmt.Errorf("reading the memory of the traced program: %w", err)
	}
	return binary.NativeEndian.Uint64(buf[:]), nil
}
