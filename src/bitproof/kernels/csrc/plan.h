/* Jobs that follow one another, from an input to an output. */
#ifndef BITPROOF_PLAN_H
#define BITPROOF_PLAN_H

#include <stdint.h>

/* One job; threads that work together count its pieces. */
typedef struct {
    const void *job;
    int64_t kind, pieces;
    int64_t grain;       /* pieces that a thread takes at once */
    int64_t taken, done; /* pieces */
} Step;

typedef struct {
    Step *steps;
    const char **source; /* where the first job has the address of its inputs */
    const char *result;
    int64_t count, input_bytes, output_bytes;
} Plan;

/* What threads that run plans share. */
typedef struct {
    Plan *plans;
    const char *inputs;
    char *outputs;
    int64_t level, n_plans, parts, together;
    int64_t joined, taken, failed;
} Crew;

#endif
