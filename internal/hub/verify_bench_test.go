package hub_test

import (
	"strings"
	"testing"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
)

func BenchmarkVerifier(b *testing.B) {
	piece := make([]byte, 1<<20)
	for name, id := range map[string]hub.BlobID{"SHA-256": hub.BlobID(strings.Repeat("a", 64)), "SHA-1 of git": hub.BlobID(strings.Repeat("a", 40))} {
		b.Run(name, func(b *testing.B) {
			v := hub.NewVerifier(id, 1<<40)
			b.SetBytes(int64(len(piece)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Write(piece); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
