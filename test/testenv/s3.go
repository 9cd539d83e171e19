package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
	return startServer(ctx, root, "versitygw", func(address string) (args, env []string) {
		args = append([]string{"--access", s3AccessKey, "--secret", s3SecretKey, "--port", address, "--keep-alive", "--quiet"}, flags...)
		return append(args, "posix", root), nil
	})
}

// StartMinIO starts MinIO on a free port, keeping its buckets below root in a form
// of its own: Path is of no use. Call Stop at the end.
func StartMinIO(ctx context.Context, root string) (*S3, error) {
	return startServer(ctx, root, "minio", func(address string) (args, env []string) {
		return []string{"server", "--quiet", "--address", address, root}, []string{
			"MINIO_ROOT_USER=" + s3AccessKey, "MINIO_ROOT_PASSWORD=" + s3SecretKey,
			"MINIO_BROWSER=off", "MINIO_UPDATE=off",
			"MINIO_CI_CD=1", // It takes a folder beside other files only then.
		}
	})
}

// startServer starts a program of the tools; command is its arguments and
// environment for an address to listen on.
func startServer(ctx context.Context, root, program string, command func(address string) (args, env []string)) (*S3, error) {
	path, err := tool("bin/" + program)
	if err != nil {
		return nil, err
	}
	// Another process may take the port between its choice and its use.
	for range 3 {
		var s *S3
		if s, err = startOnce(ctx, path, root, command); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("starting an S3 server: %w", err)
}

func startOnce(ctx context.Context, path, root string, command func(address string) (args, env []string)) (*S3, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("looking for a port: %w", err)
	}
	address := listener.Addr().String()
	if err = listener.Close(); err != nil {
		return nil, fmt.Errorf("looking for a port: %w", err)
	}
	s := &S3{Endpoint: "http://" + address, root: root, output: &bytes.Buffer{}, exited: make(chan struct{})}
	args, env := command(address)
	s.cmd = exec.Command(path, args...)
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.Env = append([]string{"HOME=" + root}, env...)
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
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(path), err)
	}
	if err = s.waitReady(ctx, address); err != nil {
		s.Stop()
		return nil, fmt.Errorf("%w; it printed:\n%s", err, s.output)
	}
	return s, nil
}

// waitReady returns when the server answers requests. One of nobody is refused,
// which says as much as a success; 503 says that it has yet to begin.
func (s *S3) waitReady(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx, address)
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return errors.New("the server ended at once")
		case <-ctx.Done():
			return fmt.Errorf("the server takes no requests: %w", err)
		case <-tick.C:
		}
	}
}

func ready(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", http.NoBody)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking the server: %w", err)
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		err = errors.New(resp.Status)
	}
	return errors.Join(err, resp.Body.Close())
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
