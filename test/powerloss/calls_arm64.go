//go:build linux

package powerloss

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// oldCalls are the calls without a descriptor of a folder. This architecture
// never had any.
func oldCalls() map[int]int { return nil }

// modern returns c, which is modern.
func (c call) modern() call { return c }
