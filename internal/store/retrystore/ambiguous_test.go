package retrystore_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/faultstore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
)

// lost is a write that is carried out, and whose answer is lost.
func lost(op string) faultstore.Fault {
	return faultstore.Fault{Op: op, Done: true, Err: store.ErrUnavailable}
}

func TestConditionalPut(t *testing.T) {
	meta := map[string]string{"by": "me"}
	for _, tc := range []struct {
		name    string
		there   string // what others wrote before
		match   bool   // put with IfMatch instead of IfAbsent
		faults  []faultstore.Fault
		between func(t *testing.T, r *rig) // what others do before the second attempt
		want    string
		kind    error
	}{
		{name: "no fault", want: "mine"},
		{name: "not carried out", faults: []faultstore.Fault{fault("put", 2)}, want: "mine"},
		{name: "answer lost", faults: []faultstore.Fault{lost("put")}, want: "mine"},
		{name: "answer lost, then unavailable", faults: []faultstore.Fault{lost("put"), fault("put", 2), fault("get", 2)}, want: "mine"},
		{name: "exists", there: "theirs", want: "theirs", kind: store.ErrExists},
		{name: "exists, same bytes", there: "mine", want: "mine", kind: store.ErrExists},
		{name: "another was quicker", faults: []faultstore.Fault{fault("put", 1)}, between: func(t *testing.T, r *rig) {
			t.Helper()
			r.put(t, "k", "theirs")
		}, want: "theirs", kind: store.ErrExists},
		{name: "another was quicker, same length", faults: []faultstore.Fault{fault("put", 1)}, between: func(t *testing.T, r *rig) {
			t.Helper()
			r.put(t, "k", "MINE")
		}, want: "MINE", kind: store.ErrExists},
		{name: "another was quicker, other metadata", faults: []faultstore.Fault{fault("put", 1)}, between: func(t *testing.T, r *rig) {
			t.Helper()
			_, err := r.plain.Put(t.Context(), "k", section("mine"), store.PutOptions{Metadata: map[string]string{"by": "them"}})
			if err != nil {
				t.Fatal(err)
			}
		}, want: "mine", kind: store.ErrExists},
		{name: "match", there: "old", match: true, want: "mine"},
		{name: "match, answer lost", there: "old", match: true, faults: []faultstore.Fault{lost("put")}, want: "mine"},
		{
			name: "match, answer lost, then replaced", there: "old", match: true, faults: []faultstore.Fault{lost("put")},
			between: func(t *testing.T, r *rig) {
				t.Helper()
				r.put(t, "k", "theirs")
			}, want: "theirs", kind: store.ErrExists,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, retrystore.Options{}, tc.faults...)
				o := store.PutOptions{IfAbsent: true, Metadata: meta}
				if tc.there != "" {
					r.put(t, "k", tc.there)
				}
				if tc.match {
					stat, err := r.plain.Stat(t.Context(), "k")
					if err != nil {
						t.Fatal(err)
					}
					o.IfAbsent, o.IfMatch = false, stat.ETag
				}
				done := make(chan error)
				go func() {
					_, err := r.Put(t.Context(), "k", section("mine"), o)
					done <- err
				}()
				if tc.between != nil {
					synctest.Wait()
					tc.between(t, r)
				}
				if err := <-done; (err == nil) != (tc.kind == nil) || !errors.Is(err, tc.kind) {
					t.Errorf("put: %v, want %v", err, tc.kind)
				}
				if got, err := readAll(t, r, store.Range{}); err != nil || got != tc.want {
					t.Errorf("the object is %q (%v), want %q", got, err, tc.want)
				}
				if left := r.script.Left(); left != nil {
					t.Errorf("faults that did not happen: %+v", left)
				}
			})
		})
	}
}

func TestComplete(t *testing.T) {
	for _, tc := range []struct {
		name   string
		faults []faultstore.Fault
		before func(t *testing.T, r *rig, u store.Upload)
		kind   error
	}{
		{name: "answer lost", faults: []faultstore.Fault{lost("complete upload")}},
		{name: "answer lost, then unavailable", faults: []faultstore.Fault{lost("complete upload"), fault("stat", 3)}},
		{name: "aborted", before: abort, kind: store.ErrNotFound},
		{name: "aborted, then unavailable", faults: []faultstore.Fault{fault("complete upload", 1)}, before: abort, kind: store.ErrNotFound},
		{
			name: "aborted, another object there", faults: []faultstore.Fault{fault("complete upload", 1)}, kind: store.ErrNotFound,
			before: func(t *testing.T, r *rig, u store.Upload) {
				t.Helper()
				abort(t, r, u)
				r.put(t, "k", "of another size")
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, retrystore.Options{}, tc.faults...)
				m := r.Store.(store.Multipart)
				u, err := m.StartUpload(t.Context(), "k", store.PutOptions{})
				if err != nil {
					t.Fatal(err)
				}
				p, err := m.PutPart(t.Context(), u, 1, section("0123456789"))
				if err != nil {
					t.Fatal(err)
				}
				if tc.before != nil {
					tc.before(t, r, u)
				}
				info, err := m.Complete(t.Context(), u, []store.Part{p})
				if (err == nil) != (tc.kind == nil) || !errors.Is(err, tc.kind) {
					t.Errorf("complete: %v, want %v", err, tc.kind)
				}
				if err == nil && (info.Key != "k" || info.Size != 10 || info.ETag == "") {
					t.Errorf("complete says %+v", info)
				}
				if left := r.script.Left(); left != nil {
					t.Errorf("faults that did not happen: %+v", left)
				}
			})
		})
	}
}

func abort(t *testing.T, r *rig, u store.Upload) {
	t.Helper()
	if err := r.plain.(store.Multipart).Abort(t.Context(), u); err != nil {
		t.Fatal(err)
	}
}

// asS3 gives objects made of parts the ETag that S3 gives them.
type asS3 struct {
	store.Store
	store.Multipart
	etag string
}

func (a asS3) Stat(ctx context.Context, key string) (store.Info, error) {
	info, err := a.Store.Stat(ctx, key)
	info.ETag = a.etag
	return info, err
}

func (a asS3) String() string { return a.Store.String() }

func TestCompleteComparesETags(t *testing.T) {
	// Of one part with the MD5 of "part": printf part | md5sum | xxd -r -p | md5sum.
	const digest, etag = "f4c9385f1902f7334b00b9b4ecd164de", "1819d1a8700e59901a48215b8577ac07-1"
	for _, tc := range []struct {
		name, etag, part string
		kind             error
	}{
		{"ours", etag, digest, nil},
		{"another's", "2819d1a8700e59901a48215b8577ac07-1", digest, store.ErrNotFound},
		{"another's, whole", "f4c9385f1902f7334b00b9b4ecd164de", digest, store.ErrNotFound},
		{"of parts without digests", etag, "opaque", nil},
		{"named otherwise", "opaque", digest, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				files := openFiles(t)
				script := new(faultstore.Script)
				script.Add(fault("complete upload", 1))
				s := retrystore.New(faultstore.New(asS3{files, files.(store.Multipart), tc.etag}, script), retrystore.Options{})
				if _, err := files.Put(t.Context(), "k", section("part"), store.PutOptions{}); err != nil {
					t.Fatal(err)
				}
				gone := store.Upload{Key: "k", ID: "GONE"}
				_, err := s.(store.Multipart).Complete(t.Context(), gone, []store.Part{{Number: 1, Size: 4, ETag: tc.part}})
				if (err == nil) != (tc.kind == nil) || !errors.Is(err, tc.kind) {
					t.Errorf("complete: %v, want %v", err, tc.kind)
				}
			})
		})
	}
}
