package stores

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/storetest"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// realVariable names a bucket of a real service to run everything on. Its
// requests cost money, and its answers take as long as they take, so it is off
// unless somebody asks for it. What the service lacks is listed, by the names of
// the fields of storetest.Options, in the variable with _LACKS at its end.
const realVariable = "HFCS_REAL_REMOTE"

// TestRealService runs the contract and a round trip on the service that
// realVariable names, below a prefix of their own each, and removes what they
// leave. Without the variable there is nothing to test: that is no failure, and
// the output says it.
func TestRealService(t *testing.T) {
	remote := os.Getenv(realVariable)
	if remote == "" {
		t.Logf("no real service is named by %s: nothing here was tried on one", realVariable)
		return
	}
	bucket, prefix, _ := strings.Cut(strings.TrimPrefix(remote, "s3://"), "/")
	credentials := s3store.Credentials{AccessKey: first("B2_APPLICATION_KEY_ID", "AWS_ACCESS_KEY_ID"), SessionToken: os.Getenv("AWS_SESSION_TOKEN")}
	credentials.SecretKey = first("B2_APPLICATION_KEY", "AWS_SECRET_ACCESS_KEY")
	credentials.Chain = credentials.AccessKey == ""
	endpoint := first("B2_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
	options := func(t *testing.T) s3store.Options {
		t.Helper()
		o := s3store.Options{
			Endpoint: endpoint, Bucket: bucket, Region: first("B2_REGION", "AWS_REGION"),
			Prefix: strings.Trim(prefix, "/") + "/hf-cache-sync-test-" + rand.Text(), Credentials: credentials,
		}
		t.Cleanup(func() { empty(t, o) })
		return o
	}
	name := "the real service at " + endpoint
	cases := 0
	t.Run("contract", func(t *testing.T) { cases = conform(t, lacks(t), retried, options) })
	record(t, name, cases, "")
	commands := 0
	t.Run("round trip", func(t *testing.T) {
		o := options(t)
		r := testenv.Remote{Name: "real", URL: "s3://" + o.Bucket + "/" + strings.Trim(o.Prefix, "/"), Env: os.Environ()}
		commands = roundTrip(t, r, retried(t, o))
	})
	recordTrip(t, name, commands, "")
}

// first is the value of the first of these variables that has one.
func first(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

func retried(t *testing.T, o s3store.Options) store.Store {
	t.Helper()
	return retrystore.New(open(t, o), retrystore.Options{})
}

// lacks is what the service is said to lack.
func lacks(t *testing.T) storetest.Options {
	t.Helper()
	var o storetest.Options
	for name := range strings.FieldsSeq(os.Getenv(realVariable + "_LACKS")) {
		switch name {
		case "NoMetadata":
			o.NoMetadata = true
		case "NoConditions":
			o.NoConditions = true
		case "FlatFolders":
			o.FlatFolders = true
		case "WholeKeysOnly":
			o.WholeKeysOnly = true
		default:
			t.Fatalf("%s_LACKS: %q is not NoMetadata, NoConditions, FlatFolders or WholeKeysOnly", realVariable, name)
		}
	}
	return o
}

// empty removes all that is below the prefix, after the test that made it.
func empty(t *testing.T, o s3store.Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s := retried(t, o)
	fail := func(err error) { t.Errorf("cleaning up below %s: %v", o.Prefix, err) }
	var keys []string
	for info, err := range s.List(ctx, "") {
		if err != nil {
			fail(err)
			return
		}
		keys = append(keys, info.Key)
	}
	for _, key := range keys {
		if err := s.Delete(ctx, key); err != nil {
			fail(err)
		}
	}
	m := s.(store.Multipart)
	for u, err := range m.Uploads(ctx, "") {
		if err != nil {
			fail(err)
			return
		}
		if err = m.Abort(ctx, u); err != nil {
			fail(err)
		}
	}
}
