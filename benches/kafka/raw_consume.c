/* Reads a topic from its start to its present end with librdkafka and throws every record away: CLIENTS clients, each with
 * a thread and its share of the partitions. Prints how many records, bytes and seconds. What any engine that reads with
 * librdkafka can at best come to.
 *
 *   raw_consume ADDRESS TOPIC PARTITIONS CLIENTS [KEY=VALUE…]
 *
 * Linked against the librdkafka that is in the wheel of confluent-kafka, which has no header: what is used is declared here. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct rd_kafka_s rd_kafka_t;
typedef struct rd_kafka_conf_s rd_kafka_conf_t;
typedef struct rd_kafka_queue_s rd_kafka_queue_t;
typedef struct rd_kafka_partitions_s rd_kafka_partitions_t;
typedef struct {
    int err;
    void *topic;
    int32_t partition;
    void *payload;
    size_t len;
    void *key;
    size_t key_len;
    int64_t offset;
    void *private_;
} rd_kafka_message_t;
enum { CONSUMER = 1, BATCH = 10000, MOST = 64 };
enum { WAIT_MS = 10, PATIENCE_MS = 60000 }; /* a batch that is not full is waited for so long, also the last one */

rd_kafka_conf_t *rd_kafka_conf_new(void);
int rd_kafka_conf_set(rd_kafka_conf_t *, const char *, const char *, char *, size_t);
rd_kafka_t *rd_kafka_new(int, rd_kafka_conf_t *, char *, size_t);
int rd_kafka_poll_set_consumer(rd_kafka_t *);
rd_kafka_queue_t *rd_kafka_queue_get_consumer(rd_kafka_t *);
void rd_kafka_queue_destroy(rd_kafka_queue_t *);
rd_kafka_partitions_t *rd_kafka_topic_partition_list_new(int);
void *rd_kafka_topic_partition_list_add(rd_kafka_partitions_t *, const char *, int32_t);
int rd_kafka_topic_partition_list_set_offset(rd_kafka_partitions_t *, const char *, int32_t, int64_t);
void rd_kafka_topic_partition_list_destroy(rd_kafka_partitions_t *);
int rd_kafka_query_watermark_offsets(rd_kafka_t *, const char *, int32_t, int64_t *, int64_t *, int);
int rd_kafka_assign(rd_kafka_t *, const rd_kafka_partitions_t *);
ssize_t rd_kafka_consume_batch_queue(rd_kafka_queue_t *, int, rd_kafka_message_t **, size_t);
void rd_kafka_message_destroy(rd_kafka_message_t *);
int rd_kafka_consumer_close(rd_kafka_t *);
void rd_kafka_destroy(rd_kafka_t *);
const char *rd_kafka_err2str(int);
const char *rd_kafka_version_str(void);

static const char *address, *topic;
static int partitions, clients, options;
static char **option;

struct share {
    pthread_t thread;
    int number;
    uint64_t records, bytes;
};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "raw_consume: %s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[512];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != 0) fail(name, why);
}

static rd_kafka_t *client(void) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", address);
    set(conf, "group.id", "raw-consume");
    set(conf, "enable.auto.commit", "false");
    set(conf, "auto.offset.reset", "error");
    for (int i = 0; i < options; i++) { /* by a copy: several threads do this at once */
        const char *equals = strchr(option[i], '=');
        if (equals == NULL) fail(option[i], "write KEY=VALUE");
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)(equals - option[i]), option[i]);
        set(conf, name, equals + 1);
    }
    rd_kafka_t *made = rd_kafka_new(CONSUMER, conf, why, sizeof why);
    if (made == NULL) fail("a client", why);
    return made;
}

/* Begins to read this client's share; how many partitions of it hold anything. ends[p]: the offset that p is read to. */
static int assign(rd_kafka_t *kafka, int number, int64_t *ends) {
    int open = 0;
    rd_kafka_partitions_t *list = rd_kafka_topic_partition_list_new(partitions);
    for (int p = number; p < partitions; p += clients) {
        int64_t first;
        int err = rd_kafka_query_watermark_offsets(kafka, topic, p, &first, &ends[p], PATIENCE_MS);
        if (err != 0) fail("the ends of the topic", rd_kafka_err2str(err));
        if (first >= ends[p]) continue;
        open++;
        rd_kafka_topic_partition_list_add(list, topic, p);
        rd_kafka_topic_partition_list_set_offset(list, topic, p, first);
    }
    int err = rd_kafka_assign(kafka, list);
    if (err != 0) fail("assign", rd_kafka_err2str(err));
    rd_kafka_topic_partition_list_destroy(list);
    return open;
}

static void *consume(void *given) {
    struct share *share = given;
    rd_kafka_t *kafka = client();
    rd_kafka_poll_set_consumer(kafka);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(kafka);
    rd_kafka_message_t **batch = malloc(BATCH * sizeof *batch);
    if (batch == NULL) fail("a batch", "no memory");
    int64_t *ends = calloc((size_t)partitions, sizeof *ends);
    if (ends == NULL) fail("offsets", "no memory");
    int open = assign(kafka, share->number, ends), silent = 0;
    while (open > 0) {
        ssize_t count = rd_kafka_consume_batch_queue(queue, WAIT_MS, batch, BATCH);
        silent = count > 0 ? 0 : silent + WAIT_MS;
        if (silent > PATIENCE_MS) fail(topic, "no record for a minute");
        for (ssize_t i = 0; i < count; i++) {
            rd_kafka_message_t *m = batch[i];
            if (m->err != 0) fail(topic, rd_kafka_err2str(m->err));
            if (m->offset < ends[m->partition]) {
                share->records++;
                share->bytes += m->len;
                if (m->offset == ends[m->partition] - 1) open--;
            }
            rd_kafka_message_destroy(m);
        }
    }
    free(batch);
    free(ends);
    rd_kafka_queue_destroy(queue);
    rd_kafka_consumer_close(kafka);
    rd_kafka_destroy(kafka);
    return NULL;
}

int main(int count, char **words) {
    if (count < 5) fail("usage", "raw_consume ADDRESS TOPIC PARTITIONS CLIENTS [KEY=VALUE...]");
    address = words[1], topic = words[2], partitions = atoi(words[3]), clients = atoi(words[4]);
    options = count - 5, option = words + 5;
    if (clients < 1 || clients > MOST || partitions < clients) fail("CLIENTS", "1 to 64, not more than there are partitions");
    struct share shares[MOST] = {0};
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < clients; i++) {
        shares[i].number = i;
        if (pthread_create(&shares[i].thread, NULL, consume, &shares[i]) != 0) fail("a thread", "not started");
    }
    uint64_t records = 0, bytes = 0;
    for (int i = 0; i < clients; i++) {
        pthread_join(shares[i].thread, NULL);
        records += shares[i].records, bytes += shares[i].bytes;
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    printf("{\"records\": %llu, \"bytes\": %llu, \"seconds\": %.4f, \"librdkafka\": \"%s\"}\n", (unsigned long long)records,
           (unsigned long long)bytes, seconds, rd_kafka_version_str());
    return 0;
}
