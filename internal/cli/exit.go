package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/hf-cache-sync/hf-cache-sync/internal/config"
	"github.com/hf-cache-sync/hf-cache-sync/internal/doctor"
	"github.com/hf-cache-sync/hf-cache-sync/internal/engine"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hfcache"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hub"
	"github.com/hf-cache-sync/hf-cache-sync/internal/hubclient"
	"github.com/hf-cache-sync/hf-cache-sync/internal/manifest"
	"github.com/hf-cache-sync/hf-cache-sync/internal/remote"
	"github.com/hf-cache-sync/hf-cache-sync/internal/store"
)

// Exit codes. docs/exit-codes.md explains them to users; a test compares the two.
const (
	exitDone        = 0
	exitUnexpected  = 1
	exitUsage       = 2  // wrong arguments or configuration
	exitSome        = 3  // some items failed, the rest is done
	exitDenied      = 4  // credentials or permission
	exitNotFound    = 5  // repository, revision or ref
	exitDamaged     = 6  // content does not match its hash
	exitUnreachable = 7  // the store, after all retries
	exitBusy        = 8  // the cache is in use
	exitDisk        = 9  // disk full, or no write access
	exitDiffers     = 10 // diff --exit-code
	exitInterrupt   = 130
	exitTerminate   = 143
)

// usageError is a mistake in the arguments or the configuration.
type usageError struct {
	err  error
	hint string
}

// Error says what is wrong with them.
func (e *usageError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{err: fmt.Errorf(format, args...)} }

// someFailedError ends a command that did part of its work. What failed has been said item by item.
type someFailedError struct {
	code    int
	message string
	hint    string
}

// Error sums up.
func (e *someFailedError) Error() string { return e.message }

// verdict is how an error ends the process.
type verdict struct {
	code          int
	message, hint string
}

// explain is the one table from errors to exit codes, messages and hints.
func explain(err error) verdict {
	v := verdict{code: exitUnexpected, message: err.Error()}
	if interrupt, ok := errors.AsType[*interruptError](err); ok {
		v.code, v.hint = exitTerminate, "run the same command again; it carries on where it stopped"
		if interrupt.signal == os.Interrupt {
			v.code = exitInterrupt
		}
		return v
	}
	if some, ok := errors.AsType[*someFailedError](err); ok {
		return verdict{some.code, some.message, some.hint}
	}
	if missing, ok := errors.AsType[*noFolderError](err); ok {
		return verdict{exitUnreachable, err.Error(), missing.hint()}
	}
	if usage, ok := errors.AsType[*usageError](err); ok {
		return verdict{exitUsage, err.Error(), usage.hint}
	}
	if space, ok := errors.AsType[*engine.SpaceError](err); ok {
		return verdict{exitDisk, space.Error(), "free some space in that folder, or name another with --cache-dir"}
	}
	for _, row := range explanations() {
		if row.matches(err) {
			v.code, v.hint = row.code, cmp.Or(doctor.Remedy([]error{err}), row.hint)
			return v
		}
	}
	return v
}

const hintBadDigest = "the bytes changed on their way; run the same command again"

type explanation struct {
	matches func(error) bool
	code    int
	hint    string
}

// explanations go from the specific to the general: the first that matches counts.
func explanations() []explanation {
	is := func(targets ...error) func(error) bool {
		return func(err error) bool {
			for _, t := range targets {
				if errors.Is(err, t) {
					return true
				}
			}
			return false
		}
	}
	return []explanation{
		{is(config.ErrNoRemote), exitUsage, "try: hf-cache-sync --remote file:///path/to/folder push --create"},
		{isType[*overlapError], exitUsage, hintOverlap},
		{isType[*noCacheError], exitUsage, "download a model first, or name the cache with --cache-dir"},
		{isBusyWatch, exitBusy, "stop it, or watch another cache with --cache-dir"},
		{isType[*hfcache.BusyError], exitBusy, "wait until it has finished, or stop it"},
		{isType[*engine.AmbiguousError], exitNotFound, "give more digits of the commit"},
		{isType[*engine.CollisionError], exitSome, "put the cache on a file system that tells upper and lower case apart, or pull fewer files with --include"},
		{is(hubclient.ErrGated), exitDenied, "accept the terms on the repository's page on the Hub, and give a token of that account: HF_TOKEN, or hf auth login"},
		{is(hubclient.ErrBadToken), exitDenied, "check HF_TOKEN, or log in again: hf auth login"},
		{is(hubclient.ErrDisabled), exitNotFound, ""},
		{is(hubclient.ErrOffline), exitUnreachable, "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, or pull without --fallback"},
		{is(hubclient.ErrRateLimited), exitUnreachable, "wait some minutes, or give a token (HF_TOKEN): the Hub allows more to those that it knows"},
		{is(hubclient.ErrRepoNotFound, hubclient.ErrRevisionNotFound, hubclient.ErrEntryNotFound), exitNotFound, "check the name; a private repository needs a token: HF_TOKEN, or hf auth login"},
		{is(hubclient.ErrUnavailable), exitUnreachable, "check the network and HF_ENDPOINT, then run the same command again; it carries on where it stopped"},
		{is(hubclient.ErrInvalid), exitUnexpected, "check HF_ENDPOINT: what answers there is no Hub that makes sense"},
		{isType[*engine.EmptyError], exitNotFound, "add --fallback hf-hub to download it from the Hub"},
		{is(remote.ErrNotFound), exitNotFound, "hf-cache-sync list --remote shows what the bucket has"},
		{isType[*remote.WrongBodyError], exitDamaged, ""}, // Remedy says what helps
		{is(store.ErrNotObject), exitUsage, "the bucket's folder holds a link or a special file where an object should be; look at it and remove it"},
		// These are of single blobs; the command that has met them knows what helps.
		{isType[*engine.DamagedError], exitDamaged, ""},
		{isType[*hub.MismatchError], exitDamaged, ""},
		{is(store.ErrBadDigest), exitDamaged, hintBadDigest},
		{is(manifest.ErrInvalid), exitDamaged, ""}, // Remedy says what helps, if anything does
		{is(hub.ErrRepo, hub.ErrRef, hub.ErrCommit), exitUsage, "a repository is org/name, datasets/org/name, spaces/org/name or hf://…@revision"},
		// A folder as a bucket denies by the file system; keys have nothing to do with it.
		{is(fs.ErrPermission, syscall.EROFS), exitDisk, "make the folder writable for this user"},
		{is(store.ErrClockSkew), exitDenied, "set this machine's clock, best by a time service (timedatectl set-ntp true)"},
		{is(store.ErrExpired), exitDenied, "get new credentials, for example with aws sso login, then run the same command again; it carries on where it stopped"},
		{is(store.ErrDenied), exitDenied, "check the key: B2_APPLICATION_KEY_ID and B2_APPLICATION_KEY, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"},
		{is(store.ErrSetting), exitUsage, "change that setting in the configuration file, or leave it out"},
		{is(store.ErrBadConfig), exitUsage, "check the bucket's name, its region and its endpoint (B2_ENDPOINT or AWS_ENDPOINT_URL)"},
		{is(store.ErrNoFolder), exitUnreachable, hintNoFolder},
		{is(store.ErrUnavailable, context.DeadlineExceeded), exitUnreachable, "check the network and the endpoint, then run the same command again; it carries on where it stopped"},
		{is(store.ErrNoSpace, syscall.ENOSPC, syscall.EDQUOT), exitDisk, "free some space, then run the same command again; it carries on where it stopped"},
		{is(hfcache.ErrInTheWay), exitDisk, "look at what is there in the cache folder and move it away"},
	}
}

// isBusyWatch says whether another watcher is in the way, which does not finish by itself.
func isBusyWatch(err error) bool {
	busy, ok := errors.AsType[*hfcache.BusyError](err)
	return ok && busy.Name == "watch"
}

func isType[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}
