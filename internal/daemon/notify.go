package daemon

import (
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells the service manager how the program is doing (sd_notify(3)). Without one it does nothing, and errors do not matter: a manager that cannot be told
// finds out by itself.
type Notifier struct{}

// Ready says that the start is over.
func (Notifier) Ready() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) }

// Stopping says that the end has begun.
func (Notifier) Stopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }

// Reloading and, after it, Ready frame the reading of a configuration.
func (Notifier) Reloading() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReloading) }

// Status is one line for people.
func (Notifier) Status(text string) { _, _ = daemon.SdNotify(false, "STATUS="+text) }

// Alive has to be said every [Notifier.Interval].
func (Notifier) Alive() { _, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog) }

// Interval is how often the manager wants to hear from the program, half of what it takes to be given up; 0 if it does not care.
func (Notifier) Interval() time.Duration {
	after, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return 0
	}
	return after / 2
}
