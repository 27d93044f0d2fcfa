/* What library.py calls: every function takes the level that computes. */
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
    const size_t sizes[] = {sizeof(Rows),            sizeof(Int8Convolution), sizeof(Int8Pack), sizeof(Convolution),
                            sizeof(RemapTerms),      sizeof(RequantizeSums), sizeof(AddWords)};
    int64_t number = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        number = number * 257 + (int64_t)sizes[i];
    return number;
}

EXPORT int bitproof_convolve(int level, const Convolution *job, int64_t first, int64_t last,
                             int64_t first_filter, int64_t last_filter) {
    return find_level(level)->convolve(job, first, last, first_filter, last_filter);
}

/* Bytes [first, last) of two arrays without gaps. */
EXPORT int bitproof_remap_bytes(int level, const uint8_t *source, uint8_t *target,
                                const uint8_t *table, int64_t first, int64_t last) {
    find_level(level)->remap_row(target + first, source + first, last - first, table);
    return 0;
}

EXPORT int bitproof_remap_terms(int level, const RemapTerms *job, int64_t first, int64_t last) {
    find_level(level)->remap_terms(job, first, last);
    return 0;
}

/* Words [first, last) of arrays without gaps. */
EXPORT int bitproof_add_words(int level, const AddWords *job, int64_t first, int64_t last) {
    find_level(level)->add_words(job, first, last);
    return 0;
}

EXPORT int bitproof_requantize(int level, const RequantizeSums *job, int64_t first, int64_t last) {
    find_level(level)->requantize(job, first, last);
    return 0;
}

EXPORT int bitproof_int8_convolve(int level, const Int8Convolution *job, int64_t first,
                                  int64_t last) {
    return find_level(level)->int8_convolve(job, first, last);
}

EXPORT int bitproof_int8_pack(int level, const Int8Pack *job, int64_t first, int64_t last) {
    find_level(level)->int8_pack(job, first, last);
    return 0;
}

EXPORT int bitproof_rows(int level, const Rows *job, int64_t first, int64_t last) {
    return find_level(level)->rows(job, first, last);
}
