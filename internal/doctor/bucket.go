package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Limits from which on something is worth saying.
const (
	skewNoticed  = 5 * time.Minute  // a ref that is learned now may look newer than it is
	skewRefused  = 15 * time.Minute // S3 refuses signatures of such requests (RequestTimeTooSkewed)
	staleUploads = 7 * 24 * time.Hour
)

// Hints that several rows share.
const (
	hintBucket = "check the bucket's name, and that the endpoint is that of the service which has it; buckets are made in the service's console"
	hintClock  = "set this machine's clock, best by a time service (timedatectl set-ntp true)"
)

func bucketRows(f Facts) Report {
	isFolder := f.Settings.RemoteErr == nil && f.Settings.Remote.Kind == config.Folder
	b := f.Bucket
	if b == nil {
		b = &Bucket{ListErr: store.ErrUnavailable} // so that the rows are skipped
	}
	report := Report{reachableRow(f)}
	if b.Usable() {
		report = append(report, b.readRow(), b.writeRow(f.Write, isFolder), b.conditionsRow())
	} else {
		report = append(report, skipped("read"), skipped("write"), skipped("conditional writes"))
	}
	if !isFolder { // a folder has the clock of this machine, or of whoever serves it, and nobody signs anything
		report = append(report, b.clockRow())
	}
	if b.Usable() {
		return append(report, b.uploadsRow(f.Now), b.Refs.row())
	}
	return append(report, skipped("unfinished uploads"), skipped("refs and manifests"))
}

func reachableRow(f Facts) Row {
	const name = "bucket reachable"
	b := f.Bucket
	switch {
	case b == nil:
		return skipped(name)
	case b.ListErr == nil:
		return Row{Name: name, Detail: "it answers"}
	}
	detail, hint := explain(b.ListErr, f.Settings.Credentials)
	return Row{name, Fail, detail, hint}
}

// explain says what a failure to list the bucket means.
func explain(err error, credentials config.Origin) (detail, hint string) {
	why := reason(err)
	if failure, ok := errors.AsType[*store.Error](err); ok && failure.Op == "open" && !errors.Is(err, store.ErrNoFolder) {
		return why, "correct what the rows above show" // nothing was sent yet
	}
	var dns *net.DNSError
	for _, row := range []struct {
		is           bool
		detail, hint string
	}{
		{errors.Is(err, store.ErrNoFolder), why, "mount the disk or the share, or correct the path; for a new bucket: hf-cache-sync push --create"},
		{errors.Is(err, store.ErrNoBucket), why, hintBucket},
		{errors.Is(err, store.ErrWrongRegion), "wrong region: " + why, "set B2_REGION or AWS_REGION to the bucket's region, and the endpoint to that of the region"},
		{errors.Is(err, store.ErrWrongEndpoint), "wrong endpoint: what answers is no S3 service: " + why, "check the endpoint (B2_ENDPOINT or AWS_ENDPOINT_URL): its scheme, its host and its port"},
		{errors.Is(err, store.ErrNoCredentials), why, "the row credentials says what to set"},
		{errors.Is(err, store.ErrUnknownKey), "wrong key: the service does not know the access key: " + why, checkKeys(credentials) + "; it may be that of another service, or have been revoked"},
		{errors.Is(err, store.ErrWrongSecret), "wrong secret: it does not belong to the access key: " + why, checkKeys(credentials) + "; copy both anew, without spaces"},
		{errors.Is(err, store.ErrExpired), "the credentials have expired: " + why, "get new ones, for example with aws sso login"},
		{errors.Is(err, store.ErrClockSkew), why, hintClock},
		{errors.Is(err, fs.ErrPermission), why, "make the folder readable for this user"},
		{errors.Is(err, store.ErrDenied), "listing is denied: " + why, "let the key list the bucket below the prefix (B2: listFiles; AWS: s3:ListBucket), or check that it is a key for this bucket"},
		{errors.Is(err, store.ErrBadConfig), why, "check the endpoint and its certificate"},
		{errors.As(err, &dns) && dns.IsNotFound, "wrong endpoint: there is no such host: " + why, "check the spelling of the endpoint (B2_ENDPOINT or AWS_ENDPOINT_URL)"},
		{errors.Is(err, context.DeadlineExceeded), "no answer in time", "check the network, the proxy (HTTPS_PROXY) and the endpoint"},
		{errors.Is(err, store.ErrUnavailable), why, "check the network, the proxy (HTTPS_PROXY) and the endpoint"},
	} {
		if row.is {
			return row.detail, row.hint
		}
	}
	return why, ""
}

// checkKeys names where the pair that is used stands.
func checkKeys(credentials config.Origin) string {
	switch string(credentials) {
	case "b2_env":
		return "check B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY"
	case "aws_env":
		return "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	case "config":
		return "check storage.access_key and storage.secret_key in the configuration file"
	}
	return "check the AWS profile, or what the machine gives"
}

// isDenied says whether a store, or the file system below a folder, refuses for want of a right.
func isDenied(err error) bool {
	return errors.Is(err, store.ErrDenied) || errors.Is(err, fs.ErrPermission)
}

func (b *Bucket) readRow() Row {
	const name = "read"
	switch {
	case errors.Is(b.Read, errOtherBytes):
		return Row{name, Fail, b.Read.Error(), "something between here and the store changes or caches what it passes on: look for a proxy"}
	case isDenied(b.Read):
		return Row{name, Fail, "denied: " + reason(b.Read), "let the key read (B2: readFiles; AWS: s3:GetObject): nothing can be pulled without"}
	case b.Read != nil:
		return Row{Name: name, Status: Fail, Detail: reason(b.Read)}
	case b.Write != nil:
		return Row{Name: name, Detail: "allowed"}
	}
	return Row{Name: name, Detail: "what was written comes back"}
}

func (b *Bucket) writeRow(needed, folder bool) Row {
	row := Row{Name: "write"}
	switch {
	case isDenied(b.Write):
		row.Status, row.Detail = Warn, "read-only, which is enough for pulling: "+reason(b.Write)
		if needed {
			row.Status, row.Detail = Fail, "denied: "+reason(b.Write)
		}
		row.Hint = "to push, give a key that may write (B2: writeFiles and deleteFiles; AWS: s3:PutObject and s3:DeleteObject)"
		if folder {
			row.Hint = "to push, make the folder writable for this user"
		}
	case b.Write != nil:
		row.Status, row.Detail = Fail, reason(b.Write)
		if errors.Is(b.Write, store.ErrNoSpace) {
			row.Hint = "free some space, or raise the quota"
		}
	case isDenied(b.Delete):
		row.Status, row.Detail = Warn, "allowed, but deleting is not: "+b.Probe+" is left: "+reason(b.Delete)
		row.Hint = "let the key delete (B2: deleteFiles; AWS: s3:DeleteObject), and remove that object"
	case b.Delete != nil:
		row.Status, row.Detail = Warn, "allowed, but deleting failed: "+b.Probe+" may be left: "+reason(b.Delete)
	default:
		row.Detail = "allowed; the probe is deleted again"
	}
	return row
}

func (b *Bucket) conditionsRow() Row {
	const name = "conditional writes"
	const instead = "manifests and refs are read, merged, written and read back instead"
	switch {
	case b.Write != nil:
		return skipped(name)
	case errors.Is(b.Conditions, store.ErrExists):
		return Row{Name: name, Detail: "supported"}
	case errors.Is(b.Conditions, store.ErrUnsupported):
		return Row{Name: name, Detail: "not used: " + reason(b.Conditions) + "; " + instead}
	case b.Conditions == nil:
		return Row{
			name, Warn, "ignored: an object that was there was overwritten in spite of the condition",
			"set storage.conditional_writes to off in the configuration file: " + instead,
		}
	case errors.Is(b.Conditions, store.ErrBadConfig):
		return Row{name, Fail, reason(b.Conditions), "set storage.conditional_writes to auto in the configuration file"}
	}
	return Row{Name: name, Status: Warn, Detail: reason(b.Conditions)}
}

func (b *Bucket) clockRow() Row {
	const name = "clock"
	switch {
	case b.ClockErr != nil && errors.Is(b.ClockErr, store.ErrUnsupported):
		return Row{Name: name, Detail: "the service does not say what time it is"}
	case b.ClockErr != nil || b.Clock.IsZero():
		return skipped(name)
	}
	skew := b.Local.Sub(b.Clock)
	side := "ahead of"
	if skew < 0 {
		side = "behind"
	}
	detail := fmt.Sprintf("%s %s the store's", skew.Abs().Round(time.Second), side)
	switch skew = skew.Abs(); {
	case skew > skewRefused:
		return Row{name, Fail, detail + ": the store refuses requests that are signed with another time", hintClock}
	case skew > skewNoticed:
		return Row{name, Warn, detail, hintClock}
	case skew < 2*time.Second: // the store's is told in whole seconds
		return Row{Name: name, Detail: "the same as the store's"}
	}
	return Row{Name: name, Detail: detail}
}

func (b *Bucket) uploadsRow(now time.Time) Row {
	const name = "unfinished uploads"
	switch {
	case errors.Is(b.UploadsErr, store.ErrUnsupported):
		return Row{Name: name, Detail: "cannot be listed here"}
	case isDenied(b.UploadsErr):
		return Row{Name: name, Status: Skipped, Detail: "the key may not list them"}
	case b.UploadsErr != nil:
		return Row{Name: name, Status: Warn, Detail: reason(b.UploadsErr)}
	case b.Uploads == 0:
		return Row{Name: name, Detail: "none"}
	}
	age := now.Sub(b.Oldest)
	detail := fmt.Sprintf("%d, the oldest from %s", b.Uploads, b.Oldest.UTC().Format(time.DateOnly))
	if age <= staleUploads {
		return Row{Name: name, Detail: detail + "; the next push carries on with them"}
	}
	return Row{
		name, Warn, detail + "; they are charged as storage",
		"the next push of a file above 16 MiB throws away those older than 7 days; a lifecycle rule of the bucket that aborts incomplete multipart uploads does it for all",
	}
}

func (s *Sample) row() Row {
	row := Row{Name: "refs and manifests"}
	all := number(s.Followed, "ref", "refs") + " followed"
	if s.More {
		all = fmt.Sprintf("the first %d refs followed", s.Followed)
	}
	switch {
	case len(s.Broken) > 0:
		row.Status = Fail
		row.Detail = fmt.Sprintf("%s, %d broken: %s", all, len(s.Broken), some(s.Broken))
		row.Hint = Remedy(s.Broken)
	case isDenied(s.Err):
		row.Status, row.Detail = Warn, "denied: "+reason(s.Err)
	case s.Err != nil:
		row.Status, row.Detail = Warn, reason(s.Err)
	case len(s.Dangling) > 0:
		row.Status = Warn
		row.Detail = fmt.Sprintf("%s, %d leading to nothing: %s", all, len(s.Dangling), some(s.Dangling))
		row.Hint = "push those repositories again; the Python tool leaves such refs behind when it finds no file that it understands"
	case s.Followed == 0:
		row.Detail = "none yet: nothing was pushed"
	default:
		row.Detail = all + ", all can be read"
	}
	return row
}

// some names the first of many.
func some(errs []error) string {
	const most = 3
	text := ""
	for i, err := range errs {
		if i == most {
			return text + fmt.Sprintf("; and %d more", len(errs)-most)
		}
		if i > 0 {
			text += "; "
		}
		text += err.Error()
	}
	return text
}
