/* How sums become words; a part of level.h. */
static inline int32_t to_word(float value, const Requantization *how) {
    /* Beyond 2**22 every value clamps; within, adding 1.5 * 2**23 rounds half to even. */
    const float limit = 4194304.0f, shift = 12582912.0f;
    value = value < limit ? value : limit;
    value = value > -limit ? value : -limit;
    value = how->truncate ? value : (value + shift) - shift;
    value = value + how->zero_point;
    value = value > how->low ? value : how->low;
    value = value < how->high ? value : how->high;
    return (int32_t)value;
}

/* A channel of float sums that lie next to one another. */
static void requantize_run(const float *restrict sums, uint8_t *restrict out, int64_t count,
                           float multiplier, float scale, float start, Requantization how) {
    if (scale == 1.0f && start == 0.0f)
        for (int64_t i = 0; i < count; i++) out[i] = (uint8_t)to_word(sums[i] * multiplier, &how);
    else
        for (int64_t i = 0; i < count; i++)
            out[i] = (uint8_t)to_word((sums[i] * scale + start) * multiplier, &how);
}

/* Sums that have a multiplier and a start each. */
static void requantize_each(const float *restrict sums, uint8_t *restrict out, int64_t count,
                            const float *restrict multiplier, float scale,
                            const float *restrict start, Requantization how) {
    for (int64_t i = 0; i < count; i++)
        out[i] = (uint8_t)to_word((sums[i] * scale + start[i]) * multiplier[i], &how);
}

/* Pixels of which the channels are neighbours: several at a time, since vectors are long. */
static void requantize_pixels(const RequantizeSums *job, int64_t first, int64_t last) {
    enum { RUN = 128 };
    float multiplier[RUN], start[RUN];
    const int64_t channels = job->channels, together = channels < RUN ? RUN / channels : 1;
    for (int64_t c = 0; c < channels; c += RUN) {
        const int64_t width = channels - c < RUN ? channels - c : RUN;
        for (int64_t i = 0; i < together * width; i++) {
            multiplier[i] = job->how.multiplier[job->how.multipliers == 1 ? 0 : c + i % width];
            start[i] = job->start == NULL ? 0.0f : job->start[c + i % width];
        }
        for (int64_t r = first; r < last; r += together) {
            const int64_t pixels = last - r < together ? last - r : together;
            requantize_each(job->sums + r * channels + c, job->out + r * channels + c,
                            pixels * width, multiplier, job->scale, start, job->how);
        }
    }
}

/* Rows [first, last). */
static int requantize_sums(const void *data, int64_t first, int64_t last) {
    const RequantizeSums *job = data;
    const int64_t row = job->channels * job->inner;
    if (job->inner == 1) {
        requantize_pixels(job, first, last);
        return 0;
    }
    for (int64_t r = first * row; r < last * row; r += row)
        for (int64_t c = 0; c < job->channels; c++)
            requantize_run(job->sums + r + c * job->inner, job->out + r + c * job->inner,
                           job->inner, job->how.multiplier[job->how.multipliers == 1 ? 0 : c],
                           job->scale, job->start == NULL ? 0.0f : job->start[c], job->how);
    return 0;
}

/* Words from `first` on, minus their zero point, times a factor. */
static void read_words(const void *words, int64_t kind, int64_t first, int64_t count, float point,
                       float factor, float *restrict to) {
    const uint8_t *bytes = (const uint8_t *)words + first;
    const int8_t *numbers = (const int8_t *)words + first;
    const int16_t *longer = (const int16_t *)words + first;
    if (kind == UNSIGNED_8)
        for (int64_t i = 0; i < count; i++) to[i] = ((float)bytes[i] - point) * factor;
    else if (kind == SIGNED_8)
        for (int64_t i = 0; i < count; i++) to[i] = ((float)numbers[i] - point) * factor;
    else
        for (int64_t i = 0; i < count; i++) to[i] = ((float)longer[i] - point) * factor;
}

/* Words [first, last), by pieces that stay in the cache. */
static int add_two(const void *data, int64_t first, int64_t last) {
    const AddWords *job = data;
    enum { PIECE = 512 };
    float left[PIECE], right[PIECE];
    const Requantization how = job->how;
    const float multiplier = job->left_multiplier;
    for (; first < last; first += PIECE) {
        const int64_t count = last - first < PIECE ? last - first : PIECE;
        read_words(job->left, job->left_kind, first, count, job->left_point,
                   job->multiplies ? 1.0f : multiplier, left);
        if (job->multiplies) {
            read_words(job->right, job->right_kind, first, count, job->right_point, 1.0f, right);
            for (int64_t i = 0; i < count; i++) left[i] = left[i] * right[i] * multiplier;
        } else if (job->right != NULL) {
            read_words(job->right, job->right_kind, first, count, job->right_point,
                       job->right_multiplier, right);
            for (int64_t i = 0; i < count; i++) left[i] = left[i] + right[i];
        }
        uint8_t *bytes = (uint8_t *)job->out + first;
        int16_t *longer = (int16_t *)job->out + first;
        if (job->out_kind == SIGNED_16)
            for (int64_t i = 0; i < count; i++) longer[i] = (int16_t)to_word(left[i], &how);
        else
            for (int64_t i = 0; i < count; i++) bytes[i] = (uint8_t)to_word(left[i], &how);
    }
    return 0;
}
