package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/failpoint"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Lease is the right to fetch a revision from the Hub for all others, as the bucket has it: an object leases/<repo key>@<commit> (docs/format.md). It ends when its holder
// deletes it, or has not renewed it for as long as it lasts; times are the store's own. A lease saves work and nothing depends on it: two holders at once fetch twice, and that is
// all.
type Lease struct {
	Holder string        // unique for each try
	Host   string        // for people
	PID    int           // for people
	Lasts  time.Duration // without being renewed
	Age    time.Duration // since it was renewed last, by the store's clock
}

// Expired says whether anybody may take it.
func (l Lease) Expired() bool { return l.Age > l.Lasts }

// LeasedError says that somebody else has the lease.
type LeasedError struct{ Lease Lease }

// Error names the holder.
func (e *LeasedError) Error() string {
	return fmt.Sprintf("it is being fetched by process %d on %s", e.Lease.PID, e.Lease.Host)
}

// ErrLeaseLost is wrapped when a lease is not ours any more.
var ErrLeaseLost = errors.New("another machine has taken the lease")

// wireLease is the object's body.
type wireLease struct {
	Version int     `json:"version"`
	Holder  string  `json:"holder"`
	Host    string  `json:"host"`
	PID     int     `json:"pid"`
	Lasts   float64 `json:"lasts_seconds"`
	Renewed int     `json:"renewed"` // counts, so that the object changes
}

const (
	leaseVersion = 1
	maxLease     = 4 << 10
	longestLease = time.Hour // a longer one is not believed
)

// HeldLease is a lease that is ours. Its methods may be called concurrently.
type HeldLease struct {
	catalog *Catalog
	key     string

	mu   sync.Mutex // guards what follows
	wire wireLease
}

// TakeLease takes the lease of a revision, or one that has expired. If somebody has it, the error is a *[LeasedError].
func (c *Catalog) TakeLease(ctx context.Context, key manifest.Key, who Lease) (*HeldLease, error) {
	h := &HeldLease{
		catalog: c, key: manifest.LeaseKey(manifest.RepoKey(key.Repo), key.Commit),
		wire: wireLease{Version: leaseVersion, Holder: who.Holder, Host: who.Host, PID: who.PID, Lasts: who.Lasts.Seconds()},
	}
	etag := ""
	for range maxRounds {
		data, err := json.Marshal(h.wire)
		if err != nil {
			return nil, err
		}
		err = c.putChecked(ctx, h.key, data, store.PutOptions{ContentType: "application/json"}, etag)
		if err == nil {
			failpoint.Hit("lease taken")
			return h, nil
		}
		if !errors.Is(err, store.ErrExists) {
			return nil, err
		}
		theirs, theirTag, err := c.lease(ctx, h.key)
		switch {
		case errors.Is(err, store.ErrNotFound):
			etag = ""
		case err != nil:
			return nil, err
		case !theirs.Expired():
			return nil, &LeasedError{theirs}
		default:
			etag = theirTag
		}
	}
	return nil, fmt.Errorf("%s: %w", h.key, errContended)
}

// Lease reads the lease of a revision. Without one the error wraps [store.ErrNotFound].
func (c *Catalog) Lease(ctx context.Context, key manifest.Key) (Lease, error) {
	l, _, err := c.lease(ctx, manifest.LeaseKey(manifest.RepoKey(key.Repo), key.Commit))
	return l, err
}

// lease reads the object. One that makes no sense has expired.
func (c *Catalog) lease(ctx context.Context, key string) (Lease, string, error) {
	data, info, err := c.read(ctx, key, maxLease)
	if err != nil && !errors.Is(err, manifest.ErrInvalid) {
		return Lease{}, "", err
	}
	var wire wireLease
	expired := Lease{Age: 1}
	if json.Unmarshal(data, &wire) != nil || wire.Version != leaseVersion || wire.Lasts <= 0 || wire.Lasts > longestLease.Seconds() || len(wire.Host) > 255 {
		return expired, info.ETag, nil //nolint:nilerr // whoever writes such a thing holds no lease
	}
	now, _ := c.storeNow(ctx)
	age := now.Sub(info.Modified)
	return Lease{wire.Holder, wire.Host, wire.PID, time.Duration(wire.Lasts * float64(time.Second)), max(0, age)}, info.ETag, nil
}

// storeNow is what time it is where the bucket is, or here if it does not say. It may be later already, by up to within.
func (c *Catalog) storeNow(ctx context.Context) (now time.Time, within time.Duration) {
	if clock, ok := store.As[store.Clocked](c.Store); ok {
		if theirs, err := clock.Now(ctx); err == nil {
			return theirs, store.ClockExact
		}
	}
	return c.Now(), 0
}

// Renew keeps the lease. The error wraps [ErrLeaseLost] if somebody else has it by now.
func (h *HeldLease) Renew(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.check(ctx); err != nil {
		return err
	}
	h.wire.Renewed++
	data, err := json.Marshal(h.wire)
	if err != nil {
		return err
	}
	_, err = h.catalog.Store.Put(ctx, h.key, io.NewSectionReader(bytes.NewReader(data), 0, int64(len(data))), store.PutOptions{ContentType: "application/json"})
	return err
}

// check says whether the object is still ours.
func (h *HeldLease) check(ctx context.Context) error {
	theirs, _, err := h.catalog.lease(ctx, h.key)
	if errors.Is(err, store.ErrNotFound) || err == nil && theirs.Holder != h.wire.Holder {
		return fmt.Errorf("%s: %w", h.key, ErrLeaseLost)
	}
	return err
}

// Release gives the lease up. One that is not ours any more is left alone.
func (h *HeldLease) Release(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.check(ctx); err != nil {
		if errors.Is(err, ErrLeaseLost) {
			return nil
		}
		return err
	}
	return h.catalog.Store.Delete(ctx, h.key)
}
