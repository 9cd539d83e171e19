package doctor_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/filestore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
)

func examine(ctx context.Context, s store.Store) *doctor.Bucket {
	return doctor.Exam{Catalog: &remote.Catalog{Store: s, Now: now}, Probe: "x", Now: time.Now}.Examine(ctx)
}

func newFolder(t *testing.T) store.Store {
	t.Helper()
	s, err := filestore.Open(t.TempDir(), filestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s store.Store, key, body string) {
	t.Helper()
	if _, err := s.Put(t.Context(), key, io.NewSectionReader(strings.NewReader(body), 0, int64(len(body))), store.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, s store.Store) []string {
	t.Helper()
	var found []string
	for info, err := range s.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, info.Key)
	}
	return found
}

func TestExamineFolder(t *testing.T) {
	s := newFolder(t)
	const commit = "0123456789012345678901234567890123456789"
	manifest := fmt.Sprintf(`{"repo": "org/name", "revision": %q, "repo_type": "model", "files": [{"path": "f", "blob": %q, "size": 1}]}`, commit, strings.Repeat("1", 64))
	put(t, s, "manifests/org__name@"+commit+".json", manifest)
	// One of no file leads nowhere, as one that is missing does.
	empty := strings.Repeat("c", 40)
	put(t, s, "manifests/org__name@"+empty+".json", fmt.Sprintf(`{"repo": "org/name", "revision": %q, "repo_type": "model", "files": []}`, empty))
	put(t, s, "refs/org__name/empty", empty)
	put(t, s, "refs/org__name/main", commit)
	put(t, s, "refs/org__name/gone", strings.Repeat("a", 40))
	put(t, s, "refs/org__name/bad", "not a commit")
	put(t, s, "refs/org__other/main", strings.Repeat("b", 40))
	put(t, s, "manifests/org__other@"+strings.Repeat("b", 40)+".json", "not JSON")
	before := keys(t, s)

	b := examine(t.Context(), s)
	if err := errors.Join(b.ListErr, b.Write, b.Read, b.Delete, b.Refs.Err, b.UploadsErr); err != nil || !errors.Is(b.Conditions, store.ErrExists) || !b.Clock.IsZero() {
		t.Errorf("%v, conditions %v", err, b.Conditions)
	}
	if b.Refs.Followed != 5 || b.Refs.More || len(b.Refs.Dangling) != 2 || len(b.Refs.Broken) != 2 {
		t.Fatalf("%+v", b.Refs)
	}
	for i, want := range []string{"refs/org__name/bad", "manifests/org__other@"} {
		if got := b.Refs.Broken[i].Error(); !strings.Contains(got, want) {
			t.Errorf("%q does not name %s", got, want)
		}
	}
	if diff := cmp.Diff(before, keys(t, s)); diff != "" {
		t.Errorf("it left or took something (-before +after):\n%s", diff)
	}
}

func TestExamineManyRefs(t *testing.T) {
	s := newFolder(t)
	for i := range 26 {
		put(t, s, fmt.Sprintf("refs/org__name/r%02d", i), strings.Repeat("a", 40))
	}
	if refs := examine(t.Context(), s).Refs; refs.Followed != 25 || !refs.More || len(refs.Dangling) != 25 {
		t.Errorf("%d of 26 followed, more %v, %d dangling", refs.Followed, refs.More, len(refs.Dangling))
	}
}

// service is as much of S3 as an examination needs, over objects in memory. refuse, if it is not nil, says with which code a request is refused.
type service struct {
	refuse func(r *http.Request) (status int, code string)

	mu      sync.Mutex // guards what follows
	objects map[string][]byte
	uploads []time.Time
}

func (s *service) open(t *testing.T) store.Store {
	t.Helper()
	s.objects = map[string][]byte{}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	opened, err := s3store.Open(s3store.Options{
		Endpoint: web.URL, Bucket: "bucket", Region: "us-east-1", Credentials: s3store.Credentials{AccessKey: "key", SecretKey: "secret"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// ServeHTTP implements [http.Handler].
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if s.refuse != nil {
		if status, code := s.refuse(r); status != 0 {
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>refused</Message></Error>", code)
			return
		}
	}
	key := strings.TrimPrefix(r.URL.Path, "/bucket/")
	w.Header().Set("ETag", `"e"`)
	switch {
	case r.URL.Query().Has("uploads"):
		_, _ = io.WriteString(w, "<ListMultipartUploadsResult>")
		for i, at := range s.uploads {
			_, _ = fmt.Fprintf(w, "<Upload><Key>k%d</Key><UploadId>u</UploadId><Initiated>%s</Initiated></Upload>", i, at.Format(time.RFC3339))
		}
		_, _ = io.WriteString(w, "</ListMultipartUploadsResult>")
	case r.URL.Query().Has("list-type"):
		_, _ = io.WriteString(w, "<ListBucketResult>")
		for k, data := range s.objects {
			if strings.HasPrefix(k, r.URL.Query().Get("prefix")) {
				_, _ = fmt.Fprintf(w, "<Contents><Key>%s</Key><Size>%d</Size></Contents>", k, len(data))
			}
		}
		_, _ = io.WriteString(w, "</ListBucketResult>")
	case r.Method == http.MethodPut:
		s.objects[key] = body
	case r.Method == http.MethodDelete:
		delete(s.objects, key)
		w.WriteHeader(http.StatusNoContent)
	case s.objects[key] == nil:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<Error><Code>NoSuchKey</Code></Error>")
	default:
		_, _ = w.Write(s.objects[key])
	}
}

// refusing refuses one method of requests, with or without a header.
func refusing(method, header string, status int, code string) func(*http.Request) (int, string) {
	return func(r *http.Request) (int, string) {
		if r.Method == method && (header == "" || r.Header.Get(header) != "") {
			return status, code
		}
		return 0, ""
	}
}

func TestExamineService(t *testing.T) {
	listing := func(r *http.Request) (int, string) {
		if r.URL.Query().Has("list-type") || r.URL.Query().Has("uploads") {
			return http.StatusForbidden, "AccessDenied"
		}
		return 0, ""
	}
	for _, tc := range []struct {
		name    string
		refuse  func(*http.Request) (int, string)
		uploads []time.Time
		want    map[string]doctor.Status // of the rows of the bucket that are not well
		left    int
	}{
		{"ignores conditions", nil, nil, map[string]doctor.Status{"conditional writes": doctor.Warn}, 0},
		{"conditions", refusing("PUT", "If-None-Match", 412, "PreconditionFailed"), nil, map[string]doctor.Status{}, 0},
		{"no conditions", refusing("PUT", "If-None-Match", 501, "NotImplemented"), nil, map[string]doctor.Status{}, 0},
		{"read-only", refusing("PUT", "", 403, "AccessDenied"), nil, map[string]doctor.Status{"write": doctor.Warn, "conditional writes": doctor.Skipped}, 0},
		{"append-only", refusing("DELETE", "", 403, "AccessDenied"), nil, map[string]doctor.Status{"write": doctor.Warn, "conditional writes": doctor.Warn}, 1},
		{"full", refusing("PUT", "", 403, "QuotaExceeded"), nil, map[string]doctor.Status{"write": doctor.Fail, "conditional writes": doctor.Skipped}, 0},
		{
			"no listing", listing, nil, map[string]doctor.Status{
				"bucket reachable": doctor.Fail, "conditional writes": doctor.Warn, "unfinished uploads": doctor.Skipped, "refs and manifests": doctor.Warn,
			}, 0,
		},
		{
			"key unknown", refusing("GET", "", 403, "InvalidAccessKeyId"), nil, map[string]doctor.Status{
				"bucket reachable": doctor.Fail, "read": doctor.Skipped, "write": doctor.Skipped, "conditional writes": doctor.Skipped,
				"unfinished uploads": doctor.Skipped, "refs and manifests": doctor.Skipped,
			}, 0,
		},
		{
			"old uploads",
			refusing("PUT", "If-None-Match", 412, "PreconditionFailed"),
			[]time.Time{now().Add(-time.Hour), now().Add(-200 * time.Hour)},
			map[string]doctor.Status{"unfinished uploads": doctor.Warn},
			0,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // the S3 library spends a while after each failure
			s := &service{refuse: tc.refuse, uploads: tc.uploads}
			f := good()
			f.Bucket = examine(t.Context(), s.open(t))
			got := map[string]doctor.Status{}
			for _, row := range doctor.Judge(f)[12:] {
				if row.Status != doctor.OK {
					got[row.Name] = row.Status
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("rows (-want +got):\n%s", diff)
			}
			if f.Bucket.Clock.IsZero() {
				t.Error("the service's clock was not read")
			}
			if len(s.objects) != tc.left {
				t.Errorf("there are %d objects left", len(s.objects))
			}
		})
	}
}

func faulty(s store.Store, faults ...faultstore.Fault) store.Store {
	script := new(faultstore.Script)
	script.Add(faults...)
	return faultstore.New(s, script)
}

func TestOtherBytesComeBack(t *testing.T) {
	f := good()
	f.Bucket = examine(t.Context(), faulty(newFolder(t), faultstore.Fault{Op: "get", Flip: true}))
	for _, row := range doctor.Judge(f) {
		if row.Name == "read" && (row.Status != doctor.Fail || !strings.Contains(row.Detail, "not what was written")) {
			t.Errorf("%+v", row)
		}
	}
}

// The probe goes also when the user, or the time for everything, ends the examination while it is there.
func TestProbeGoesWhenCancelled(t *testing.T) {
	s := newFolder(t)
	ctx, cancel := context.WithCancel(t.Context())
	b := examine(ctx, faulty(s, faultstore.Fault{Op: "get", Before: func(ctx context.Context, call faultstore.Call) error {
		if _, err := s.Stat(ctx, call.Key); err != nil || call.Key != "_hf_cache_sync_doctor/probe-x" {
			t.Errorf("%s: %v", call.Key, err)
		}
		cancel()
		return ctx.Err()
	}}))
	if b.Write != nil || b.Delete != nil || !errors.Is(b.Read, context.Canceled) {
		t.Errorf("write %v, read %v, delete %v", b.Write, b.Read, b.Delete)
	}
	if found := keys(t, s); len(found) > 0 {
		t.Errorf("there are still %q", found)
	}
}

func TestSilentStore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	f := good()
	f.Bucket = examine(ctx, faulty(newFolder(t), faultstore.Fault{Op: "list", Block: true}))
	for _, row := range doctor.Judge(f) {
		if row.Name == "bucket reachable" && (row.Status != doctor.Fail || row.Detail != "no answer in time") || row.Name == "write" && row.Status != doctor.Skipped {
			t.Errorf("%+v", row)
		}
	}
}
