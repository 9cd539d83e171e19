package filestore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
)

// roleVariable says what this program is to do instead of running tests: tests start themselves as other processes.
const roleVariable = "FILESTORE_TEST_ROLE"

func TestMain(m *testing.M) {
	role, dir, _ := strings.Cut(os.Getenv(roleVariable), ":")
	var err error
	switch role {
	case "":
		os.Exit(m.Run())
	case "writer":
		err = writeForEver(dir)
	case "counter":
		err = count(dir)
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is this program in another role.
func child(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), roleVariable+"="+role+":"+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

const (
	writtenKey = "refs/org__name/main"
	partsKey   = "blobs/parts"
)

// version is the n-th object that a writer writes: of random length, and telling its own content.
func version(n int) string {
	return strings.Repeat(strconv.Itoa(n)+" ", 1+n*7919%30_000)
}

// writeForEver replaces two objects again and again, and says so on its output.
func writeForEver(dir string) error {
	s, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for n := range 1_000_000 {
		data := version(n)
		o := store.PutOptions{Metadata: map[string]string{"version": strconv.Itoa(n)}}
		if _, err = s.Put(ctx, writtenKey, section(data), o); err != nil {
			return err
		}
		u, err := s.StartUpload(ctx, partsKey, store.PutOptions{})
		if err != nil {
			return err
		}
		p, err := s.PutPart(ctx, u, 1, section(data))
		if err != nil {
			return err
		}
		if _, err = s.Complete(ctx, u, []store.Part{p}); err != nil {
			return err
		}
		fmt.Println(n)
	}
	return nil
}

func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for range 15 {
		cmd := child(t, "writer", dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err = cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// At a moment that nobody chose, once it has begun.
		lines := bufio.NewScanner(out)
		last := -1
		for range 1 + rand.N(5) {
			if !lines.Scan() {
				t.Fatal("the writer has ended")
			}
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		if err = cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			if last, err = strconv.Atoi(lines.Text()); err != nil {
				t.Fatal(err)
			}
		}
		_ = cmd.Wait() // It was killed.

		data := get(t, s, writtenKey)
		text, _, _ := strings.Cut(data, " ")
		n, err := strconv.Atoi(text)
		if err != nil || data != version(n) || n < last {
			t.Fatalf("after version %d the object is %.40q… of %d bytes", last, data, len(data))
		}
		info, err := s.Stat(t.Context(), writtenKey)
		if err != nil || info.Metadata["version"] != text {
			t.Errorf("version %d has the metadata %v, %v", n, info.Metadata, err)
		}
		data = get(t, s, partsKey)
		text, _, _ = strings.Cut(data, " ")
		if n, err = strconv.Atoi(text); err != nil || data != version(n) || n < last {
			t.Fatalf("after version %d the object made of parts is %.40q… of %d bytes", last, data, len(data))
		}
		if got := keys(t, s, ""); len(got) != 2 {
			t.Errorf("list: %q", got)
		}
		for u, err := range s.Uploads(t.Context(), "") {
			if err != nil {
				t.Fatal(err)
			}
			if err = s.Abort(t.Context(), u); err != nil {
				t.Error(err)
			}
		}
	}
}

const (
	countKey = "refs/count"
	increase = 25 // by each process
)

// count adds to a number, as often as it says, whatever others add meanwhile.
func count(dir string) error {
	s, err := filestore.Open(dir, filestore.Options{})
	if err != nil {
		return err
	}
	ctx := context.Background()
	for done := 0; done < increase; {
		rc, info, err := s.Get(ctx, countKey, store.Range{})
		if err != nil {
			return err
		}
		data, err := io.ReadAll(rc)
		if err = errors.Join(err, rc.Close()); err != nil {
			return err
		}
		n, err := strconv.Atoi(string(data))
		if err != nil {
			return err
		}
		_, err = s.Put(ctx, countKey, section(strconv.Itoa(n+1)), store.PutOptions{IfMatch: info.ETag})
		switch {
		case err == nil:
			done++
		case !errors.Is(err, store.ErrExists):
			return err
		}
	}
	return nil
}

func TestConditionsHoldAmongProcesses(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, countKey, "100", store.PutOptions{})
	const processes = 4
	var wg sync.WaitGroup
	for range processes {
		wg.Go(func() {
			if err := child(t, "counter", dir).Run(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got, want := get(t, s, countKey), strconv.Itoa(100+processes*increase); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
