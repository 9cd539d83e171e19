package testenv

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes cmd end should the tests be killed before they could end
// it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
