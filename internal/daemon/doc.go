// Package daemon is what a program needs that runs unattended: metrics for Prometheus, a health check, and the service manager's notifications. It knows nothing of what
// the program does.
package daemon
