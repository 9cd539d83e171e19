package s3store_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
)

// A machine whose clock is wrong must be able to see so by the service's.
func TestNowIsTheServicesClock(t *testing.T) {
	theirs := time.Date(2019, 5, 1, 12, 0, 0, 0, time.UTC)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", theirs.Format(http.TimeFormat))
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	s, err := s3store.Open(s3store.Options{
		Endpoint: server.URL, Bucket: "bucket", Region: "us-east-1",
		Credentials: s3store.Credentials{AccessKey: "key", SecretKey: "secret"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		now, err := s.Now(t.Context())
		if err != nil || now.Before(theirs) || now.Sub(theirs) > time.Hour {
			t.Errorf("the service's clock says %v, %v; want %v and a little", now, err, theirs)
		}
	}
}
