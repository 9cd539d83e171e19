// Package faultproxy is a network and a server on a bad day: an HTTP proxy that
// stands before a real server and treats some of the requests badly.
//
// A [Proxy] passes requests on as they came, with the Host header that the
// client has signed, so that a server that checks signatures (AWS Signature
// Version 4) takes them. A [Plan] says for each request which [Fault] it meets,
// if any. A fault is a value: a way to be treated badly, and which requests it
// can happen to. What was really done is counted, fault by fault, so that a test
// can tell that it has tested something: a body of no bytes cannot be cut, and a
// listing that has no new key does not lag.
//
// Which request meets which fault does not depend on the order in which requests
// arrive, where the plan is [Random]: the same seed and the same client give the
// same faults.
package faultproxy
