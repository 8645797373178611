/* HTTP/1.1 load for what wrk cannot do: HEAD, and a fixed rate.

   load PORT CONNECTIONS SECONDS RATE REQUESTS NOBODY

   RATE      requests per second over all connections, sent on schedule whether or not earlier ones
             were answered in time (so a stall is not hidden); 0: as fast as answers come
   REQUESTS  a file of request heads, each ended by an empty line; taken in turn
   NOBODY    1: answers have no body whatever Content-Length says (HEAD)

   Prints one JSON object; latencies in microseconds, from the scheduled time when there is a rate. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (256 * 1024)
#define SLOTS 2000000 /* one per microsecond; slower answers count as the last */

struct connection {
    int fd, busy;
    size_t head_length;
    int64_t body_left; /* -1: the head is not complete */
    double since;
    char head[8192];
};

static char buffer[BUFFER];
static uint32_t histogram[SLOTS];
static const char *requests[65536];
static size_t lengths[65536];
static int request_count;
static int no_body;
static uint64_t answers, bytes, bad;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void read_requests(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) { perror(path); exit(2); }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = malloc(size + 1);
    if (fread(text, 1, size, file) != (size_t)size) exit(2);
    text[size] = 0;
    for (char *at = text; request_count < 65536;) {
        char *end = strstr(at, "\r\n\r\n");
        if (!end) break;
        requests[request_count] = at;
        lengths[request_count++] = end + 4 - at;
        at = end + 4;
    }
    if (!request_count) { fprintf(stderr, "no request in %s\n", path); exit(2); }
}

static void begin(struct connection *c, double since) {
    static int next;
    int n = next++ % request_count;
    c->busy = 1;
    c->since = since;
    c->head_length = 0;
    c->body_left = -1;
    if (send(c->fd, requests[n], lengths[n], MSG_NOSIGNAL) != (ssize_t)lengths[n]) { perror("send"); exit(1); }
}

/* Take bytes that came; 1 when the answer is complete. */
static int take(struct connection *c, const char *data, size_t size) {
    if (c->body_left < 0) {
        size_t old = c->head_length, room = sizeof c->head - 1 - old;
        size_t part = size < room ? size : room;
        memcpy(c->head + old, data, part);
        c->head_length += part;
        c->head[c->head_length] = 0;
        char *end = strstr(c->head, "\r\n\r\n");
        if (!end) {
            if (part == room) { fprintf(stderr, "head too long\n"); exit(1); }
            return 0;
        }
        size_t used = end + 4 - c->head - old;
        int status = atoi(c->head + 9);
        if (status != 200 && status != 206 && status != 304) bad++;
        char *length = strcasestr(c->head, "\r\ncontent-length:");
        c->body_left = no_body || status == 304 || !length || length > end ? 0 : atoll(length + 17);
        data += used;
        size -= used;
    }
    bytes += size;
    c->body_left -= size;
    if (c->body_left < 0) { fprintf(stderr, "more bytes than declared\n"); exit(1); }
    return c->body_left == 0;
}

int main(int count, char **words) {
    if (count != 7) { fprintf(stderr, "see the head of load.c\n"); return 2; }
    int port = atoi(words[1]), connections = atoi(words[2]);
    double seconds = atof(words[3]), rate = atof(words[4]);
    read_requests(words[5]);
    no_body = atoi(words[6]);

    int events = epoll_create1(0);
    struct connection *all = calloc(connections, sizeof *all);
    int *idle = malloc(connections * sizeof *idle), idle_count = 0;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < connections; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
        if (connect(fd, (struct sockaddr *)&address, sizeof address)) { perror("connect"); return 1; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        all[i].fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(events, EPOLL_CTL_ADD, fd, &e);
        idle[idle_count++] = i;
    }

    double start = now(), end = start + seconds, due = start;
    struct epoll_event ready[256];
    for (double t = start; t < end; t = now()) {
        while (idle_count && (!rate || due <= t)) {
            begin(&all[idle[--idle_count]], rate ? due : t);
            if (rate) due += 1 / rate;
        }
        /* No longer than to the next request that is due: others on this core are to have the rest. */
        double wait = rate && idle_count ? due - t : 0.1;
        if (wait < 0) wait = 0;
        struct timespec most = {.tv_sec = wait, .tv_nsec = (wait - (long)wait) * 1e9};
        int n = epoll_pwait2(events, ready, 256, &most, NULL);
        for (int k = 0; k < n; k++) {
            struct connection *c = &all[ready[k].data.u32];
            ssize_t got = recv(c->fd, buffer, BUFFER, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0 || !c->busy) { fprintf(stderr, "connection closed\n"); return 1; }
            if (!take(c, buffer, got)) continue;
            int64_t slot = (now() - c->since) * 1e6;
            histogram[slot < SLOTS ? slot : SLOTS - 1]++;
            answers++;
            c->busy = 0;
            if (rate) idle[idle_count++] = ready[k].data.u32;
            else begin(c, now());
        }
    }
    double took = now() - start;
    uint64_t seen = 0, p50 = 0, p99 = 0;
    for (int i = 0; i < SLOTS && seen < answers; i++) {
        seen += histogram[i];
        if (!p50 && seen >= answers * 0.50) p50 = i;
        if (!p99 && seen >= answers * 0.99) p99 = i;
    }
    printf("{\"requests\": %lu, \"rate\": %.1f, \"bytes\": %lu, \"bad\": %lu, \"p50\": %lu, \"p99\": %lu}\n",
           answers, answers / took, bytes, bad, p50, p99);
    return 0;
}
