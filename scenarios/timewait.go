package scenarios

import "time"

// TimeWaitLength is how long a socket stays in TIME_WAIT: TCP_TIMEWAIT_LEN, a
// constant of every Linux kernel (include/net/tcp.h), which no sysctl changes.
const TimeWaitLength = 60 * time.Second
