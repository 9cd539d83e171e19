package s3store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
)

func xmlError(code, message string) string {
	return fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message><RequestId>1</RequestId></Error>", code, message)
}

func TestErrors(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		header map[string]string
		body   string
		kind   error
		code   string
		text   string // in the message
		after  int
	}{
		{name: "no such key", status: 404, body: xmlError("NoSuchKey", "The specified key does not exist."), kind: store.ErrNotFound, code: "NoSuchKey"},
		{name: "no such upload", status: 404, body: xmlError("NoSuchUpload", "x"), kind: store.ErrNotFound, code: "NoSuchUpload"},
		{name: "bare 404", status: 404, kind: store.ErrNotFound},
		{name: "no such bucket", status: 404, body: xmlError("NoSuchBucket", "x"), kind: store.ErrNoBucket, code: "NoSuchBucket", text: `no bucket "bucket"`},
		{name: "denied", status: 403, body: xmlError("AccessDenied", "Access Denied"), kind: store.ErrDenied, code: "AccessDenied"},
		{name: "bare 403", status: 403, kind: store.ErrDenied},
		{name: "bare 401", status: 401, kind: store.ErrDenied, code: "401"},
		{name: "wrong key id", status: 403, body: xmlError("InvalidAccessKeyId", "x"), kind: store.ErrUnknownKey, code: "InvalidAccessKeyId"},
		{name: "wrong secret", status: 403, body: xmlError("SignatureDoesNotMatch", "x"), kind: store.ErrWrongSecret, code: "SignatureDoesNotMatch"},
		{name: "expired", status: 400, body: xmlError("ExpiredToken", "The provided token has expired."), kind: store.ErrExpired, code: "ExpiredToken"},
		{name: "clock", status: 403, body: xmlError("RequestTimeTooSkewed", "The clock."), kind: store.ErrClockSkew, code: "RequestTimeTooSkewed", text: "clock"},
		{
			name: "wrong region", status: 400, kind: store.ErrWrongRegion, code: "AuthorizationHeaderMalformed", text: `is in region "eu-west-3"`,
			body: "<Error><Code>AuthorizationHeaderMalformed</Code><Message>expecting 'eu-west-3'</Message><Region>eu-west-3</Region></Error>",
		},
		{
			name: "moved", status: 301, header: map[string]string{"X-Amz-Bucket-Region": "eu-west-3"}, kind: store.ErrWrongRegion,
			body: xmlError("PermanentRedirect", "x"), code: "PermanentRedirect", text: `is in region "eu-west-3"`,
		},
		{
			name: "moved for now", status: 307, kind: store.ErrWrongRegion, body: xmlError("TemporaryRedirect", "x"), code: "TemporaryRedirect",
			header: map[string]string{"Location": "https://elsewhere.invalid/", "Content-Type": "application/xml"}, text: "the region or the endpoint",
		},
		{name: "precondition", status: 412, body: xmlError("PreconditionFailed", "x"), kind: store.ErrExists, code: "PreconditionFailed"},
		{name: "conflict", status: 409, body: xmlError("ConditionalRequestConflict", "x"), kind: store.ErrExists, code: "ConditionalRequestConflict"},
		{name: "other conflict", status: 409, body: xmlError("OperationAborted", "x"), kind: store.ErrUnavailable, code: "OperationAborted"},
		{name: "range", status: 416, body: xmlError("InvalidRange", "x"), kind: store.ErrBadRange, code: "InvalidRange"},
		{name: "not implemented", status: 501, body: xmlError("NotImplemented", "x"), kind: store.ErrUnsupported, code: "NotImplemented"},
		{name: "digest", status: 400, body: xmlError("XAmzContentSHA256Mismatch", "x"), kind: store.ErrBadDigest, code: "XAmzContentSHA256Mismatch"},
		{name: "full", status: 507, body: xmlError("XMinioStorageFull", "x"), kind: store.ErrNoSpace, code: "XMinioStorageFull"},
		{
			name: "slow down", status: 503, header: map[string]string{"Retry-After": "7"}, body: xmlError("SlowDown", "Please reduce your request rate."),
			kind: store.ErrUnavailable, code: "SlowDown", after: 7,
		},
		{
			name: "later by a date", status: 503, kind: store.ErrUnavailable, code: "503", after: 90,
			header: map[string]string{"Date": "Mon, 23 Nov 2026 07:00:00 GMT", "Retry-After": "Mon, 23 Nov 2026 07:01:30 GMT"},
		},
		{name: "internal", status: 500, body: xmlError("InternalError", "x"), kind: store.ErrUnavailable, code: "InternalError"},
		{name: "request timeout", status: 400, body: xmlError("RequestTimeout", "x"), kind: store.ErrUnavailable, code: "RequestTimeout"},
		{name: "too many", status: 429, kind: store.ErrUnavailable, code: "429", text: "Too Many Requests"},
		{name: "proxy", status: 502, body: "<html><title>502 Bad Gateway</title><hr>nginx", kind: store.ErrUnavailable, code: "502", text: "Bad Gateway"},
		{name: "odd 5xx", status: 527, kind: store.ErrUnavailable, code: "527"},
		{name: "unknown", status: 400, body: xmlError("Curious", "A message."), code: "Curious", text: "A message (Curious)"},
		{
			name: "secrets", status: 403, body: xmlError("AccessDenied", "key "+accessKey+" with "+secretKey), kind: store.ErrDenied,
			code: "AccessDenied", text: "key (redacted) with (redacted)",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel() // The library spends a while after each failure.
			srv := newService(t, false, func(w http.ResponseWriter, _ *http.Request) {
				for name, value := range tc.header {
					w.Header().Set(name, value)
				}
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			for op, run := range operations(open(t, srv.options())) {
				before := len(srv.asked())
				err := run(t.Context())
				if errors.Is(tc.kind, store.ErrNotFound) && (op == "delete" || op == "abort upload") {
					if err != nil {
						t.Errorf("%s of what is gone: %v", op, err)
					}
					continue
				}
				var se *store.Error
				if !errors.As(err, &se) {
					t.Errorf("%s: %v is no *store.Error", op, err)
					continue
				}
				if se.Op != op || se.Key != "k" {
					t.Errorf("%s: the error is about %s of %s", op, se.Op, se.Key)
				}
				if op == "stat" && (tc.kind == nil || tc.status == 400 || tc.status == 404 || tc.status == 409 || tc.status == 501) {
					continue // A HEAD says less.
				}
				if tc.name == "bare 404" && strings.HasPrefix(op, "list") && op != "list parts" {
					continue // What is missing then is the bucket.
				}
				if (se.Kind == nil) != (tc.kind == nil) || !errors.Is(se.Kind, tc.kind) {
					t.Errorf("%s: %v: kind %v, want %v", op, err, se.Kind, tc.kind)
				}
				if op == "stat" {
					continue
				}
				if tc.code != "" && se.Code != tc.code || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("%s: code %q, text %q, want %q and %q", op, se.Code, err, tc.code, tc.text)
				}
				if se.RetryAfter != tc.after {
					t.Errorf("%s: retry after %d s, want %d", op, se.RetryAfter, tc.after)
				}
				if n := len(srv.asked()) - before; n != 1 {
					t.Errorf("%s: %d requests, want 1", op, n)
				}
				if text := err.Error(); strings.Contains(text, "?") || strings.Contains(text, "http:") || strings.Contains(text, "uploadId") {
					t.Errorf("%s: %q has a URL in it", op, text)
				}
			}
		})
	}
}

func TestStatAsksWhy(t *testing.T) {
	for _, tc := range []struct {
		name     string
		head     int
		header   map[string]string
		get      int
		body     string
		kind     error
		code     string
		requests int
	}{
		{"expired", 400, nil, 400, xmlError("ExpiredToken", "x"), store.ErrExpired, "ExpiredToken", 2},
		{"signature", 403, nil, 403, xmlError("SignatureDoesNotMatch", "x"), store.ErrWrongSecret, "SignatureDoesNotMatch", 2},
		{
			"region", 400,
			map[string]string{"X-Amz-Bucket-Region": "eu-west-3"},
			400, xmlError("AuthorizationHeaderMalformed", "x"),
			store.ErrWrongRegion, "AuthorizationHeaderMalformed", 2,
		},
		{"missing is an answer", 404, nil, 404, "", store.ErrNotFound, "NoSuchKey", 1},
		{"only the head is refused", 403, nil, 206, "x", store.ErrDenied, "AccessDenied", 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
				for name, value := range tc.header {
					w.Header().Set(name, value)
				}
				if r.Method == http.MethodHead {
					w.WriteHeader(tc.head)
					return
				}
				w.WriteHeader(tc.get)
				_, _ = io.WriteString(w, tc.body)
			})
			_, err := open(t, srv.options()).Stat(t.Context(), "k")
			var se *store.Error
			if !errors.As(err, &se) || !errors.Is(se.Kind, tc.kind) || se.Code != tc.code || se.Op != "stat" {
				t.Errorf("%#v, want kind %v, code %s", err, tc.kind, tc.code)
			}
			if n := len(srv.asked()); n != tc.requests {
				t.Errorf("%d requests, want %d", n, tc.requests)
			}
		})
	}
}

func TestConditionsAreLearnt(t *testing.T) {
	srv := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Match") != "" {
			w.WriteHeader(http.StatusNotImplemented)
			_, _ = io.WriteString(w, xmlError("NotImplemented", "x"))
			return
		}
		accept(w, r)
	})
	s := open(t, srv.options())
	for range 3 {
		for _, o := range []store.PutOptions{{IfAbsent: true}, {IfMatch: "e"}} {
			if _, err := s.Put(t.Context(), "k", section("x"), o); !errors.Is(err, store.ErrUnsupported) {
				t.Errorf("put %+v: %v", o, err)
			}
		}
	}
	if n := len(srv.asked()); n != 1 {
		t.Errorf("%d requests, want that from which it was learnt", n)
	}
	if _, err := s.Put(t.Context(), "k", section("x"), store.PutOptions{}); err != nil {
		t.Error(err)
	}

	o := srv.options()
	o.NoConditions = true
	if _, err := open(t, o).Put(t.Context(), "k", section("x"), store.PutOptions{IfAbsent: true}); !errors.Is(err, store.ErrUnsupported) {
		t.Errorf("put: %v", err)
	}
	if n := len(srv.asked()); n != 2 {
		t.Errorf("%d requests, want none for what is known", n)
	}

	o.NoConditions, o.MustConditions = false, true
	if _, err := open(t, o).Put(t.Context(), "k", section("x"), store.PutOptions{IfAbsent: true}); !errors.Is(err, store.ErrSetting) {
		t.Errorf("put: %v", err)
	}
}

func TestChecksumHeaderThatIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		status  int
		body    string
		keep    bool
		o       store.PutOptions
		setting bool
	}{
		"400":                 {400, xmlError("InvalidArgument", "Unsupported header 'x-amz-checksum-sha256' received for this API call."), true, store.PutOptions{}, true},
		"400, conditional":    {400, xmlError("InvalidRequest", "X-Amz-Checksum-Sha256 is not supported"), true, store.PutOptions{IfAbsent: true}, true},
		"501":                 {501, xmlError("NotImplemented", "A header you provided implies functionality that is not implemented"), true, store.PutOptions{}, true},
		"501, conditional":    {501, xmlError("NotImplemented", "A header you provided implies functionality that is not implemented"), true, store.PutOptions{IfAbsent: true}, false},
		"not asked for":       {501, xmlError("NotImplemented", "A header you provided implies functionality that is not implemented"), false, store.PutOptions{}, false},
		"for another reason":  {400, xmlError("InvalidArgument", "Invalid Argument"), true, store.PutOptions{}, false},
		"bytes that were bad": {400, xmlError("XAmzContentChecksumMismatch", "The provided 'x-amz-checksum' header does not match what was computed."), true, store.PutOptions{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			srv := newService(t, false, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			o := srv.options()
			o.KeepChecksum = tc.keep
			_, err := open(t, o).Put(t.Context(), "k", section("x"), tc.o)
			if err == nil || errors.Is(err, store.ErrSetting) != tc.setting || tc.setting != strings.Contains(err.Error(), "storage.checksum") {
				t.Errorf("put: %v", err)
			}
		})
	}
}

func TestMatchOfWhatIsGone(t *testing.T) {
	srv := newService(t, false, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, xmlError("NoSuchKey", "x"))
	})
	if _, err := open(t, srv.options()).Put(t.Context(), "k", section("x"), store.PutOptions{IfMatch: "e"}); !errors.Is(err, store.ErrExists) {
		t.Errorf("put: %v", err)
	}
}

func TestCompleteFailsWith200(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		kind       error
	}{
		{"error", xmlError("InternalError", "We encountered an internal error."), store.ErrUnavailable},
		{"error after white space", "\n\n   " + xmlError("SlowDown", "x"), store.ErrUnavailable},
		{"no such upload", xmlError("NoSuchUpload", "x"), store.ErrNotFound},
		{"nothing", "", store.ErrUnavailable},
		{"cut", "<CompleteMultipartUploadResult><Bucket>buc", store.ErrUnavailable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					_, _ = io.WriteString(w, tc.body)
					return
				}
				w.WriteHeader(http.StatusNotFound)
			})
			_, err := open(t, srv.options()).Complete(t.Context(), store.Upload{Key: "k", ID: "id"}, []store.Part{{Number: 1, Size: 4, ETag: "e"}})
			if !errors.Is(err, tc.kind) {
				t.Errorf("complete: %v, want %v", err, tc.kind)
			}
		})
	}
}

func TestCompleteOfFewWords(t *testing.T) {
	// A success that does not name the bucket is one if the object is there.
	srv := newService(t, false, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.WriteString(w, "<CompleteMultipartUploadResult><ETag>e-1</ETag></CompleteMultipartUploadResult>")
			return
		}
		w.Header().Set("Content-Length", "4")
		w.Header().Set("ETag", `"e-1"`)
	})
	info, err := open(t, srv.options()).Complete(t.Context(), store.Upload{Key: "k", ID: "id"}, []store.Part{{Number: 1, Size: 4, ETag: "e"}})
	if err != nil || info.ETag != "e-1" || info.Size != 4 {
		t.Errorf("complete: %+v, %v", info, err)
	}
}

func TestNotS3(t *testing.T) {
	srv := newService(t, false, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><body>Welcome!<p></body></html>")
	})
	ops := operations(open(t, srv.options()))
	for _, op := range []string{"list", "list uploads", "list parts", "start upload"} {
		if err := ops[op](t.Context()); !errors.Is(err, store.ErrWrongEndpoint) {
			t.Errorf("%s: %v, want ErrWrongEndpoint", op, err)
		}
	}
}

func TestWebServer(t *testing.T) {
	for contentType, want := range map[string]error{
		"":                         store.ErrNoBucket, // what some gateways say
		"application/xml":          store.ErrNoBucket,
		"text/html; charset=utf-8": store.ErrWrongEndpoint,
	} {
		srv := newService(t, false, func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Content-Type"] = []string{contentType}
			w.WriteHeader(http.StatusNotFound)
			if contentType == "text/html; charset=utf-8" {
				_, _ = io.WriteString(w, "<html>There is nothing here.")
			}
		})
		var got error
		for _, err := range open(t, srv.options()).List(t.Context(), "k") {
			got = err
		}
		if !errors.Is(got, want) {
			t.Errorf("%q: %v, want %v", contentType, got, want)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err = listener.Close(); err != nil {
		t.Fatal(err)
	}
	s := open(t, s3store.Options{Endpoint: "http://" + address, Bucket: "bucket", Credentials: s3store.Credentials{AccessKey: accessKey, SecretKey: secretKey}})
	for op, run := range operations(s) {
		if err := run(t.Context()); !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", op, err)
		}
	}
}

func TestHangsUp(t *testing.T) {
	srv := newService(t, false, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for op, run := range operations(open(t, srv.options())) {
		err := run(t.Context())
		if !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want ErrUnavailable", op, err)
		} else if strings.Contains(err.Error(), "http") {
			t.Errorf("%s: %q has a URL in it", op, err)
		}
	}
}

func TestUnknownAuthority(t *testing.T) {
	srv := newService(t, true, accept)
	o := srv.options()
	o.Transport = nil
	for op, run := range operations(open(t, o)) {
		if err := run(t.Context()); !errors.Is(err, store.ErrBadConfig) {
			t.Errorf("%s: %v, want ErrBadConfig: trying again is of no use", op, err)
		}
	}
}

func TestPlainWhereTLSIs(t *testing.T) {
	srv := newService(t, false, accept)
	o := srv.options()
	o.Endpoint, o.Transport = strings.Replace(srv.URL, "http:", "https:", 1), nil
	if err := open(t, o).Delete(t.Context(), "k"); !errors.Is(err, store.ErrWrongEndpoint) {
		t.Errorf("delete: %v, want ErrWrongEndpoint", err)
	}
}

func TestCancelledInFlight(t *testing.T) {
	arrived := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // A server sees that its client has gone only when it has read what is owed.
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	s := open(t, s3store.Options{Endpoint: srv.URL, Bucket: "bucket", Credentials: s3store.Credentials{AccessKey: accessKey, SecretKey: secretKey}})
	for op, run := range operations(s) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		err := run(ctx)
		if !errors.Is(err, context.Canceled) || errors.Is(err, store.ErrUnavailable) {
			t.Errorf("%s: %v, want a cancellation", op, err)
		}
		cancel()
	}
}
