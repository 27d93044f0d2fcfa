/* What the levels (portable, AVX2, AVX-512 VBMI with VNNI) compute, and what each of them offers.
 *
 * A `Convolution` looks every product up:
 *   out[n, m, y, x] = start[m] + addend[n, m, y, x] + sum over c, ky, kx of T_m[word, weight]
 *                     - weight_zero[m] * sum over c, ky, kx of word
 * with T_m[a, w] = low[w][a] + 256 * high[w][a]; sums are 32-bit and wrap. The input is padded
 * already.
 * Every level gives the same bits.
 */
#ifndef BITPROOF_TABLES_H
#define BITPROOF_TABLES_H

#include <stddef.h>
#include <stdint.h>

enum {
    TILE = 256,        /* pixels that share the registers of one weight's table */
    BLOCK = 128,       /* terms between two flushes: 16-bit pairs of byte sums hold 257 of them */
    FILTERS = 256,     /* filters whose 32-bit sums (1 KiB each) stay in the second-level cache */
    SLACK = 64         /* bytes behind the scratch that vector stores may touch */
};

/* How 32-bit or float sums become words: clamp(round(sum * multiplier) + zero_point, low, high). */
typedef struct {
    const float *multiplier;
    int64_t multipliers; /* 1, or one a channel */
    int64_t truncate;    /* 0: nearest, half to even; 1: toward zero, after the zero point */
    float zero_point, low, high, unused;
} Requantization;

/* One convolution. jobs.py mirrors the layout; `bitproof_layout` tells it apart. */
typedef struct {
    const uint8_t *words;       /* images, channels, height, width */
    const uint8_t *weight;      /* filters, channels / groups, kernel_height, kernel_width */
    const uint8_t *tables;      /* any, 256 weights, planes, 256 words */
    const int32_t *choice;      /* table of each filter */
    const int32_t *start;       /* of each filter */
    const int32_t *weight_zero; /* of each filter, or NULL */
    const float *addend;        /* whole numbers of the output's shape, or NULL */
    void *out;                  /* images, filters, out_height, out_width: int32, or words */
    int64_t images, channels, height, width;
    int64_t filters, kernel_height, kernel_width, groups;
    int64_t out_height, out_width;
    int64_t stride_y, stride_x, dilation_y, dilation_x;
    int64_t planes, signed_words, requantizes;
    int64_t addend_last;        /* whether the addend's filters are its last dimension */
    Requantization how;
} Convolution;

/* target[i] = table[source[i]], bytes or 16-bit words */
typedef struct {
    const uint8_t *source;
    void *target;
    const void *table;
    int64_t long_words;
} RemapBytes;

/* target[row][t][i] = tables[t][source[row][i]] */
typedef struct {
    const uint8_t *source;
    uint8_t *target;
    const uint8_t *tables;
    int64_t terms, inner;
} RemapTerms;

/* Float sums [rows][channels][inner], times scale, plus start, to words of the same layout. */
typedef struct {
    const float *sums;
    uint8_t *out;
    const float *start; /* of each channel, or NULL */
    int64_t channels, inner;
    float scale, unused;
    Requantization how;
} RequantizeSums;

/* How words lie in memory. */
enum { UNSIGNED_8, SIGNED_8, SIGNED_16 };

/* Words that are added: out = how((left - point) * multiplier + (right - point) * multiplier), or
 * multiplied: out = how((left - point) * (right - point) * multiplier), with the left multiplier.
 * Without the right ones, the left ones change their grid. */
typedef struct {
    const void *left;
    const void *right; /* or NULL */
    void *out;
    int64_t left_kind, right_kind, out_kind, multiplies;
    float left_point, left_multiplier, right_point, right_multiplier;
    Requantization how; /* without a multiplier */
} AddWords;

/* Rows of words that are standardized, or, with a table of exponentials, become a softmax. */
typedef struct {
    const void *words;
    void *out;
    const double *table;          /* by distance from the largest word of a row, or NULL */
    const double *weight, *bias;  /* of each place in a row, or NULL */
    int64_t count, kind, out_kind, masked, truncate;
    double point;                 /* of the words */
    double floor;                 /* what is added under the root; of a softmax, the masked word */
    double scale;                 /* of the output */
    double zero_point, low, high; /* of the output's words */
} Rows;

enum { ROW_PIECE = 256 };

/* What sums of a convolution on 8-bit products become. */
enum { RESULT_WORDS, RESULT_LONG_WORDS, RESULT_REAL, RESULT_SUMS };

/* A convolution of 8-bit words: out = how(start + scale * sum of word * weight + shift * sum of
 * word), in int32 sums that wrap. Words are read as unsigned; of signed ones, the eighth bit is flipped.
 */
typedef struct {
    const uint8_t *words;  /* images, height, width, channels */
    const int8_t *weight;  /* as `int8_pack` lays them out; by channel: int16, [pair of taps][channels][2] */
    const int32_t *start;  /* of each filter; filters of a group fill up 16 */
    const int32_t *shift;  /* the same, or NULL */
    void *out;             /* images, out_height, out_width, filters */
    int64_t images, height, width, channels;
    int64_t filters, groups, kernel_height, kernel_width;
    int64_t out_height, out_width;
    int64_t stride_y, stride_x, dilation_y, dilation_x, pad_y, pad_x;
    int64_t pad_word, signed_words;
    int64_t tile_height, tile_width; /* up to 256 pixels together */
    int64_t result;
    int64_t by_channel;              /* whether each channel has its own filter and no other */
    int64_t by_image;                /* whether each image has its own weights, starts and shifts */
    int64_t scale;
    int64_t parts;                   /* 64 filters of a tile each, that are pieces of their own; or 1 */
    Requantization how;              /* with a multiplier for each of the filters, filled up */
} Int8Convolution;

/* Weights [filters][depth][kernel] that become blocks; `sums` are those of each filter's weights. */
typedef struct {
    const uint8_t *weight;
    const int32_t *add;
    int8_t *packed;
    int32_t *sums;
    int64_t filters, groups, depth, kernel_height, kernel_width, dilation_x;
    int64_t flip; /* 128 where words are unsigned: it makes them signed, less 128 */
} Int8Pack;

/* Values in [0, 1] that become words, channels last: out = how(((value - mean) / std) * multiplier). */
typedef struct {
    const float *values;    /* images, channels, inner */
    void *out;              /* images, inner, channels */
    const float *mean;      /* of each channel, or NULL; then there is no `std`, either */
    const float *std;
    int64_t channels, inner, out_kind;
    float multiplier, unused;
    Requantization how;     /* without a multiplier */
} QuantizeValues;

/* Windows of words: the largest one, or how(sum of (word - point) * multiplier); what lies around
 * the map counts as `point`. */
typedef struct {
    const void *words; /* images, height, width, channels */
    void *out;         /* images, out_height, out_width, channels */
    int64_t height, width, channels, out_height, out_width;
    int64_t kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x;
    int64_t kind, out_kind, largest;
    float point, multiplier;
    Requantization how; /* without a multiplier; with `largest`, unused */
} PoolWords;

/* Words [rows][count][inner] that become [rows][inner]: how(sum of (word - point) * multiplier). */
typedef struct {
    const void *words;
    void *out;
    int64_t count, inner, kind, out_kind;
    float point, multiplier;
    Requantization how; /* without a multiplier */
} AverageWords;

enum { AXES = 6 };

/* Elements that are copied from one order in memory to another. */
typedef struct {
    const uint8_t *from;
    uint8_t *to;
    int64_t bytes; /* of an element */
    int64_t sizes[AXES], from_steps[AXES], to_steps[AXES]; /* steps in bytes */
} CopyElements;

/* What sums of products of two outputs begin with: start = -point * (sum + rest), rows filled up. */
typedef struct {
    const int32_t *sums; /* rows, filters */
    int32_t *start;      /* rows, padded */
    int64_t filters, padded, point, rest;
} StartSums;

/* A convolution of images of which a few words differ from those of a known run, in int32 sums that
 * wrap: out = how(sum of the known run + sum of (word - known word) * weight). */
typedef struct {
    const uint8_t *words;   /* images, height, width, channels */
    const uint8_t *known;   /* known images, height, width, channels */
    const int32_t *sums;    /* known images, out_height, out_width, filters */
    const int64_t *which;   /* known image of each image */
    const int16_t *weight;  /* kernel_height, kernel_width, channels, filters */
    void *out;              /* images, out_height, out_width, filters */
    uint8_t *left;          /* of each image: whether too many words differ, and nothing was done */
    int64_t height, width, channels, filters, kernel_height, kernel_width;
    int64_t out_height, out_width;
    int64_t stride_y, stride_x, dilation_y, dilation_x, pad_y, pad_x;
    int64_t signed_words, most, out_kind; /* most words that may differ */
    Requantization how;     /* with a multiplier for each filter */
} ChangedConvolution;

/* Pieces [first, last) of a job; 0, or -1 if there is no memory. */
typedef int (*JobFunction)(const void *job, int64_t first, int64_t last);
/* The same of filters [first_filter, last_filter). */
typedef int (*ConvolveFunction)(const Convolution *, int64_t, int64_t, int64_t, int64_t);

/* Jobs by number, as in jobs.py and map_jobs.py. */
enum {
    REMAP_BYTES,
    REMAP_TERMS,
    REQUANTIZE_SUMS,
    ADD_WORDS,
    INT8_CONVOLVE,
    INT8_PACK,
    ROWS,
    QUANTIZE_VALUES,
    POOL_WORDS,
    AVERAGE_WORDS,
    COPY_ELEMENTS,
    START_SUMS,
    CHANGED_CONVOLUTION,
    KINDS
};

typedef struct {
    ConvolveFunction convolve;
    JobFunction jobs[KINDS];
} Level;

extern const Level bitproof_level_portable;
#if defined(__x86_64__)
extern const Level bitproof_level_avx2;
extern const Level bitproof_level_vbmi;
#endif

#endif
