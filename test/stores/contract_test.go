package stores

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/retrystore"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/s3store"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store/storetest"

	"github.com/hf-cache-sync/hf-cache-sync/test/proof"
	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// opener opens a store of the given options.
type opener func(t *testing.T, o s3store.Options) store.Store

// ways are the ways to open a store that the contract is tried on. A prefix has
// characters that are escaped in URLs and signatures.
func ways() map[string]opener {
	return map[string]opener{
		"plain": open,
		"below a prefix": func(t *testing.T, o s3store.Options) store.Store {
			t.Helper()
			o.Prefix = "/team a/+b%/"
			return open(t, o)
		},
		"retried": func(t *testing.T, o s3store.Options) store.Store {
			t.Helper()
			return retrystore.New(open(t, o), retrystore.Options{})
		},
	}
}

// conform runs the contract and returns how many cases of it there were.
func conform(t *testing.T, differs storetest.Options, opened opener, bucket func(t *testing.T) s3store.Options) int {
	t.Helper()
	var cases atomic.Int64
	storetest.Run(t, differs, func(t *testing.T) store.Store {
		t.Helper()
		cases.Add(1)
		return opened(t, bucket(t))
	})
	return int(cases.Load())
}

// record tells that the contract was tried cases times, all of which hold if t has
// not failed.
func record(t *testing.T, name string, cases int, figures string) {
	t.Helper()
	row := proof.Row{Class: proof.Stores, Tried: "cases of the contract on " + name, Times: cases, Figures: figures}
	row.Record(t)
}

func fakeDiffers() storetest.Options {
	return storetest.Options{AnyDigest: true, RacyConditions: true, EmptyUploads: true, WholeKeysOnly: true}
}

func versityDiffers() storetest.Options {
	return storetest.Options{FlatFolders: true, RacyFolders: true, CutParts: true}
}

func TestContractFake(t *testing.T) {
	t.Parallel()
	fakeBucket := fakeBuckets(t)
	cases := 0
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) { cases += conform(t, fakeDiffers(), way, fakeBucket) })
	}
	record(t, "gofakes3, plain, below a prefix and retried", cases, "")
}

// TestContractVersity tries one way in an ordinary run: the fake shows the others,
// and so do the services that are played.
func TestContractVersity(t *testing.T) {
	t.Parallel()
	tried := []string{"plain"}
	if proof.Times(0, 1) == 1 {
		tried = slices.Sorted(maps.Keys(ways()))
	}
	cases := 0
	for _, name := range tried {
		t.Run(name, func(t *testing.T) { cases += conform(t, versityDiffers(), ways()[name], realBucket) })
	}
	record(t, "versitygw, "+strings.Join(tried, ", "), cases, "")
}

// TestContractQuirks runs the contract on services that are not quite S3.
func TestContractQuirks(t *testing.T) {
	t.Parallel()
	for name, service := range services() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if service.slow { // Its waits are the round trip's business.
				return
			}
			q := startQuirks(t, server.Endpoint, service.profile)
			differs := versityDiffers()
			differs.NoConditions, differs.NoMetadata = service.differs.NoConditions, service.differs.NoMetadata
			cases := conform(t, differs, func(t *testing.T, o s3store.Options) store.Store {
				t.Helper()
				s := ways()["below a prefix"](t, o)
				if service.busy {
					return retrystore.New(s, retrystore.Options{First: 1, MaxTries: 50})
				}
				return s
			}, func(t *testing.T) s3store.Options {
				t.Helper()
				o := realBucket(t)
				o.Endpoint = q.URL
				return o
			})
			n, kinds := q.answers()
			record(t, name+", played by a proxy before versitygw", cases, told(n, kinds))
		})
	}
}

// told lists the answers of quirks for a cell of a table.
func told(n int, kinds map[string]int) string {
	if n == 0 {
		return "nothing of ours is refused"
	}
	var text []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		text = append(text, fmt.Sprintf("%d × %s", kinds[kind], kind))
	}
	return fmt.Sprintf("%d answers that are not S3's: %s", n, strings.Join(text, ", "))
}

// TestQuirksAreRefused makes the requests that the services refuse, which our own
// client never makes: a proxy that lets them pass would prove nothing.
func TestQuirksAreRefused(t *testing.T) {
	t.Parallel()
	tried := 0
	for name, service := range services() {
		for _, o := range service.offences {
			tried++
			t.Run(name+"/"+o.name, func(t *testing.T) {
				q := startQuirks(t, server.Endpoint, service.profile)
				req, err := http.NewRequestWithContext(t.Context(), o.method, q.URL+"/"+server.Bucket(t)+"/key?"+o.query, strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				for header, value := range o.header {
					req.Header.Set(header, value)
				}
				if code := s3Code(t, req); code != o.code {
					t.Errorf("the answer is %q, want %q", code, o.code)
				}
			})
		}
	}
	row := proof.Row{
		Class: proof.Stores, Tried: "requests that one of these services refuses, made on purpose and refused by its proxy", Times: tried,
	}
	row.Record(t)
}

// TestUnequalParts has two services look at the sizes of parts.
func TestUnequalParts(t *testing.T) {
	t.Parallel()
	q := startQuirks(t, server.Endpoint, services()["Cloudflare R2"].profile)
	const mib = 1 << 20
	for name, tc := range map[string]struct {
		sizes   []int
		refused bool
	}{
		"equal but the last":      {[]int{5 * mib, 5 * mib, 7}, false},
		"one":                     {[]int{7}, false},
		"the second shorter":      {[]int{6 * mib, 5 * mib, 7}, true},
		"the second longer":       {[]int{5 * mib, 6 * mib, 7}, true},
		"the last is the longest": {[]int{5 * mib, 5*mib + 1}, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := realBucket(t)
			o.Endpoint = q.URL
			m := open(t, o).(store.Multipart)
			u, err := m.StartUpload(t.Context(), "blobs/k", store.PutOptions{})
			if err != nil {
				t.Fatal(err)
			}
			var parts []store.Part
			for i, size := range tc.sizes {
				p, putErr := m.PutPart(t.Context(), u, i+1, section(string(testenv.Noise(uint64(i), size))))
				if putErr != nil {
					t.Fatal(putErr)
				}
				parts = append(parts, p)
			}
			if _, err = m.Complete(t.Context(), u, parts); (err != nil) != tc.refused || err != nil && !strings.Contains(err.Error(), "InvalidPart") {
				t.Errorf("complete: %v", err)
			}
		})
	}
}
