/* What library.py calls: every function takes the level that computes. */
#include <sched.h>
#include <string.h>

#include "plan.h"
#include "tables.h"

#define EXPORT __attribute__((visibility("default")))

enum { PORTABLE, AVX2, VBMI };

static const Level *find_level(int level) {
#if defined(__x86_64__)
    if (level == AVX2) return &bitproof_level_avx2;
    if (level == VBMI) return &bitproof_level_vbmi;
#endif
    (void)level;
    return &bitproof_level_portable;
}

/* The highest level that this processor can compute. */
EXPORT int bitproof_best_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vnni"))
        return VBMI;
    if (__builtin_cpu_supports("avx2")) return AVX2;
#endif
    return PORTABLE;
}

/* A number that changes with the layouts below: library.py refuses objects built from others. */
EXPORT int64_t bitproof_layout(void) {
    const size_t sizes[] = {sizeof(Convolution),    sizeof(RemapBytes),   sizeof(RemapTerms),
                            sizeof(RequantizeSums), sizeof(AddWords),     sizeof(Int8Convolution),
                            sizeof(Int8Pack),       sizeof(Rows),         sizeof(QuantizeValues),
                            sizeof(PoolWords),      sizeof(AverageWords), sizeof(CopyElements),
                            sizeof(StartSums),      sizeof(ChangedConvolution), sizeof(Step),
                            sizeof(Crew)};
    uint64_t number = 0; /* wraps, as library.py lets it */
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        number = (number * 257 + sizes[i]) % 1000000007;
    return (int64_t)number;
}

EXPORT int bitproof_convolve(int level, const Convolution *job, int64_t first, int64_t last,
                             int64_t first_filter, int64_t last_filter) {
    return find_level(level)->convolve(job, first, last, first_filter, last_filter);
}

/* Pieces [first, last) of a job of one of the kinds. */
EXPORT int bitproof_do(int level, int64_t kind, const void *job, int64_t first, int64_t last) {
    return find_level(level)->jobs[kind](job, first, last);
}

/* All steps, by this thread alone. */
static int run_alone(const Level *level, const Plan *plan) {
    for (int64_t i = 0; i < plan->count; i++) {
        const Step *step = plan->steps + i;
        if (level->jobs[step->kind](step->job, 0, step->pieces)) return -1;
    }
    return 0;
}

/* All steps, by any number of threads that call this: each takes pieces of a step while there are
 * some, and waits until those of the others are done. Who comes late finds less to do; who does not
 * come is not waited for. */
static int run_together(const Level *level, Plan *plan) {
    int code = 0;
    for (int64_t i = 0; i < plan->count; i++) {
        Step *step = plan->steps + i;
        for (;;) {
            const int64_t first = __atomic_fetch_add(&step->taken, step->grain, __ATOMIC_ACQ_REL);
            if (first >= step->pieces) break;
            const int64_t beyond = first + step->grain;
            const int64_t last = beyond < step->pieces ? beyond : step->pieces;
            if (level->jobs[step->kind](step->job, first, last)) code = -1;
            __atomic_fetch_add(&step->done, last - first, __ATOMIC_ACQ_REL);
        }
        for (int turns = 0; __atomic_load_n(&step->done, __ATOMIC_ACQUIRE) < step->pieces; turns++)
            if (turns > 1000) sched_yield(); /* others may want this core */
    }
    return code;
}

/* Called by each thread that takes part. Either one plan is run once by all of them together, or
 * each has a plan of its own, and takes one part of the inputs after another. */
EXPORT void bitproof_run_crew(void *data) {
    Crew *crew = data;
    const Level *level = find_level((int)crew->level);
    const int64_t own = __atomic_fetch_add(&crew->joined, 1, __ATOMIC_ACQ_REL);
    int code = 0;
    if (crew->together) {
        code = run_together(level, crew->plans);
    } else if (own < crew->n_plans) {
        const Plan *plan = crew->plans + own;
        int64_t part;
        while (!code && (part = __atomic_fetch_add(&crew->taken, 1, __ATOMIC_ACQ_REL)) < crew->parts) {
            *plan->source = crew->inputs + part * plan->input_bytes;
            code = run_alone(level, plan);
            memcpy(crew->outputs + part * plan->output_bytes, plan->result,
                   (size_t)plan->output_bytes);
        }
    }
    if (code) __atomic_store_n(&crew->failed, 1, __ATOMIC_RELEASE);
}
