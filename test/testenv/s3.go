package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

const (
	s3AccessKey = "test"
	s3SecretKey = "testsecret"
)

// S3 is a running S3 server, whose buckets are folders.
type S3 struct {
	Endpoint string
	root     string
	cmd      *exec.Cmd
	output   *bytes.Buffer
	exited   chan struct{} // Closed when the server has ended.
	buckets  atomic.Int64  // How many were made.
}

// MainWithS3 is a TestMain that runs the tests of a package beside one server,
// which it hands to use. It returns the exit code.
func MainWithS3(m *testing.M, use func(*S3)) (code int) {
	fail := func(err error) {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	root, err := os.MkdirTemp("", "s3-")
	if err != nil {
		fail(err)
		return code
	}
	defer func() {
		if err = os.RemoveAll(root); err != nil {
			fail(err)
		}
	}()
	s, err := StartS3(context.Background(), root)
	if err != nil {
		fail(err)
		return code
	}
	defer s.Stop()
	use(s)
	return m.Run()
}

// StartS3 starts versitygw on a free port, keeping its buckets below root. Flags,
// such as --readonly, are its own. Call Stop at the end.
func StartS3(ctx context.Context, root string, flags ...string) (*S3, error) {
	path, err := tool("bin/versitygw")
	if err != nil {
		return nil, err
	}
	// Another process may take the port between its choice and its use.
	for range 3 {
		var s *S3
		if s, err = startS3(ctx, path, root, flags); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("starting an S3 server: %w", err)
}

func startS3(ctx context.Context, path, root string, flags []string) (*S3, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("looking for a port: %w", err)
	}
	address := listener.Addr().String()
	if err = listener.Close(); err != nil {
		return nil, fmt.Errorf("looking for a port: %w", err)
	}
	s := &S3{Endpoint: "http://" + address, root: root, output: &bytes.Buffer{}, exited: make(chan struct{})}
	args := append([]string{"--access", s3AccessKey, "--secret", s3SecretKey, "--port", address, "--keep-alive", "--quiet"}, flags...)
	s.cmd = exec.Command(path, append(args, "posix", root)...)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.Env = []string{"HOME=" + root}
	started := make(chan error, 1)
	go func() {
		defer close(s.exited)
		// Linux ends the server when the thread that started it ends, so that
		// thread is kept for it.
		runtime.LockOSThread()
		dieWithParent(s.cmd)
		startErr := s.cmd.Start()
		started <- startErr
		if startErr == nil {
			_ = s.cmd.Wait() // How it ended does not matter: it is killed.
		}
	}()
	if err = <-started; err != nil {
		return nil, fmt.Errorf("starting versitygw: %w", err)
	}
	if err = s.waitReady(ctx, address); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w; it printed:\n%s", err, s.output)
	}
	return s, nil
}

// waitReady returns when the server takes connections.
func (s *S3) waitReady(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close() //nolint:wrapcheck // Nothing to add.
		}
		select {
		case <-s.exited:
			return errors.New("versitygw ended at once")
		case <-ctx.Done():
			return fmt.Errorf("versitygw takes no connections: %w", err)
		case <-tick.C:
		}
	}
}

// Stop kills the server and waits for its end.
func (s *S3) Stop() {
	_ = s.cmd.Process.Kill() // It may have ended already.
	<-s.exited
}

// Bucket makes an empty bucket and returns its name.
func (s *S3) Bucket(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%03d", s.buckets.Add(1))
	if err := os.Mkdir(s.Path(name), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// Path is the folder that holds the objects of bucket, for tests that look at
// them or damage them.
func (s *S3) Path(bucket string) string { return filepath.Join(s.root, bucket) }

// Env is the variables by which hf-cache-sync, 0.1.0 in Python included, finds
// the server and may use it.
func (s *S3) Env() []string {
	return []string{
		"B2_ENDPOINT=" + s.Endpoint, "B2_REGION=us-east-1", "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=" + s3AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3SecretKey,
	}
}
