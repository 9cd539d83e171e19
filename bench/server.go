package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	accessKey = "bench"
	secretKey = "bench-secret"
	region    = "us-east-1"
)

// Server is a running versitygw, whose buckets are folders.
type Server struct {
	Addr    string // Host and port.
	root    string
	buckets int
	cmd     *exec.Cmd
	release func()
}

// StartServer starts the gateway at path with its buckets below root. Call Stop
// at the end.
func StartServer(ctx context.Context, path, root string) (*Server, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("looking for a port: %w", err)
	}
	s := &Server{Addr: listener.Addr().String(), root: root}
	if err = listener.Close(); err != nil {
		return nil, fmt.Errorf("looking for a port: %w", err)
	}
	if err = os.MkdirAll(root, 0o700); err != nil {
		return nil, err //nolint:wrapcheck // It names the folder.
	}
	var output bytes.Buffer
	s.cmd = exec.CommandContext(ctx, path, "--access", accessKey, "--secret", secretKey, "--port", s.Addr, "--keep-alive", "--quiet", "posix", root)
	s.cmd.Stdout, s.cmd.Stderr, s.cmd.Env = &output, &output, []string{"HOME=" + root}
	if s.release, err = startBound(s.cmd); err != nil {
		return nil, fmt.Errorf("starting versitygw: %w", err)
	}
	if err = s.waitReady(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("versitygw: %w; it printed:\n%s", err, output.String())
	}
	return s, nil
}

// waitReady returns when the server takes connections.
func (s *Server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.Addr)
		if err == nil {
			return conn.Close() //nolint:wrapcheck // Nothing to add.
		}
		if wait(ctx, time.Now().Add(20*time.Millisecond)) != nil {
			return fmt.Errorf("it takes no connections: %w", err)
		}
	}
}

// Stop kills the server and waits for its end.
func (s *Server) Stop() {
	_, _ = s.cmd.Process.Kill(), s.cmd.Wait() // It may have ended; how does not matter.
	s.release()
}

// Path is the folder of a bucket.
func (s *Server) Path(bucket string) string { return filepath.Join(s.root, bucket) }

// MakeBucket makes an empty bucket and returns its name.
func (s *Server) MakeBucket() (string, error) {
	s.buckets++
	name := fmt.Sprintf("bench-%04d", s.buckets)
	return name, os.Mkdir(s.Path(name), 0o700)
}

// RemoveBucket removes the bucket and all that is in it.
func (s *Server) RemoveBucket(bucket string) error {
	// The gateway keeps the parts of uploads in a folder of the bucket itself.
	return os.RemoveAll(s.Path(bucket))
}

// FillBucket puts count blobs there that no manifest names. They are links to one
// file and so take next to no memory.
func (s *Server) FillBucket(bucket string, count int) error {
	dir := filepath.Join(s.Path(bucket), "blobs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err //nolint:wrapcheck // It names the folder.
	}
	first := filepath.Join(dir, fmt.Sprintf("%064x", 0))
	if err := os.WriteFile(first, []byte("some other blob\n"), 0o600); err != nil {
		return err //nolint:wrapcheck // It names the file.
	}
	for i := 1; i < count; i++ {
		// Names all over the key space, as those of real blobs are.
		name := fmt.Sprintf("%016x%048d", uint64(i)*0x9e3779b97f4a7c15, i)
		if err := os.Link(first, filepath.Join(dir, name)); err != nil {
			return err //nolint:wrapcheck // It names the files.
		}
	}
	return nil
}

// Holds checks that the bucket has each of blobs, in its size.
func (s *Server) Holds(bucket string, blobs map[string]int64) error {
	var missing []error
	for name, size := range blobs {
		info, err := os.Stat(filepath.Join(s.Path(bucket), "blobs", name))
		switch {
		case err != nil:
			missing = append(missing, err)
		case info.Size() != size:
			missing = append(missing, fmt.Errorf("%s has %d bytes, not %d", name, info.Size(), size))
		}
	}
	if len(missing) > 3 {
		missing = append(missing[:3], fmt.Errorf("and %d more", len(missing)-3))
	}
	return errors.Join(missing...)
}
