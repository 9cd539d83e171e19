package oracle_test

import (
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/test/testenv"
)

// readers are the clients that judge a cache.
func readers(t *testing.T) []testenv.Client {
	t.Helper()
	return []testenv.Client{
		testenv.Python(t, "0.36.2"), testenv.Python(t, "1.29.0"), testenv.Python(t, "2.4.0"), testenv.JavaScript(t),
	}
}

// TestSource shows that the judge is fair: a cache as the clients themselves
// leave it passes everything that a pulled one has to pass.
func TestSource(t *testing.T) {
	for _, writer := range readers(t) {
		t.Run(writer.Name, func(t *testing.T) {
			t.Parallel()
			s := fill(t, newWorld(t), writer.Name, writer)
			testenv.AuditCache(t, hubDir(s.home))
			for _, reader := range readers(t) {
				checkFiles(t, s, reader, inspect(t, s, s.home, reader))
			}
			for _, reader := range readers(t) {
				checkOnline(t, s, s.home, reader)
			}
		})
	}
}
