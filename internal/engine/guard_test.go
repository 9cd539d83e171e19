package engine_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/plan"
)

// What is synced already is asked for by revision and ref, never by blob or file, from the first look to the last. test/scale does the same with the binary and large buckets.
func TestNothingNewAsksByRevision(t *testing.T) {
	var pushes, pulls []plan.Requests
	for _, blobs := range []int{3, 120} {
		alice, bob, bucket := t.TempDir(), t.TempDir(), t.TempDir()
		var files []file
		for i := range blobs {
			files = append(files, file{hub.Path(fmt.Sprintf("file-%03d", i)), fmt.Append(nil, i), i%2 == 0})
		}
		a, b := site(t, alice, bucket), site(t, bob, bucket)
		write(t, a.Cache, model, first, "main", files)
		push(t, a)
		pull(t, b, model, "")

		// As another process, which has read nothing yet.
		a, b = site(t, alice, bucket), site(t, bob, bucket)
		made := counted(a)
		if _, result, _ := push(t, a); result.Blobs != 0 {
			t.Fatalf("%d blobs were pushed again", result.Blobs)
		}
		pushes = append(pushes, made())
		made = counted(b)
		pull(t, b, model, "")
		pulls = append(pulls, made())
	}
	if diff := cmp.Diff(pushes[0], pushes[1]); diff != "" {
		t.Errorf("requests of a push with nothing new depend on the number of blobs (-3 +120):\n%s", diff)
	}
	if diff := cmp.Diff(pulls[0], pulls[1]); diff != "" {
		t.Errorf("requests of a pull with nothing new depend on the number of blobs (-3 +120):\n%s", diff)
	}
	// The manifest and the ref. A pull lists refs as well, because others may name the revision.
	wantPush, wantPull := plan.Requests{Get: 2}, plan.Requests{Get: 2, List: 1}
	if pushes[0] != wantPush || pulls[0] != wantPull {
		t.Errorf("a push with nothing new: %+v, want %+v; a pull: %+v, want %+v", pushes[0], wantPush, pulls[0], wantPull)
	}
}
