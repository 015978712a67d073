/* See h264.h. Clause numbers are those of ITU-T H.264 (08/2021). */
#include "h264.h"

#include <stdlib.h>
#include <string.h>

enum {
    COUNTER_BITS = 16,   /* of frame_num and pic_order_cnt_lsb */
    SLICE_TYPE_I = 7,    /* all slices of the picture are I */
    MB_TYPE_I_PCM = 25,
    MACROBLOCK_BYTES = 256 + 64 + 64,
    NAL_SLICE = 1, NAL_IDR = 5, NAL_SPS = 7, NAL_PPS = 8,
};

/* Bits into bytes, the first bit highest (7.2). */
struct writer {
    uint8_t *bytes;
    size_t bits;
};

static void put(struct writer *writer, unsigned count, uint32_t value)
{
    while (count--) {
        uint8_t *byte = writer->bytes + writer->bits / 8;
        unsigned shift = 7 - writer->bits++ % 8;
        if (shift == 7)
            *byte = 0;
        *byte |= (uint8_t)((value >> count & 1) << shift);
    }
}

/* Exp-Golomb codes (9.1). */
static void put_ue(struct writer *writer, uint32_t value)
{
    unsigned bits = 0;
    while ((value + 1) >> (bits + 1))
        bits++;
    put(writer, bits, 0);
    put(writer, bits + 1, value + 1);
}

static void put_se(struct writer *writer, int value)
{
    put_ue(writer, value > 0 ? 2u * (unsigned)value - 1 : 2u * (unsigned)-value);
}

/* Zeros up to the next whole byte. */
static void align(struct writer *writer)
{
    while (writer->bits % 8)
        put(writer, 1, 0);
}

/* Closes the payload (7.3.2.11) and writes it as a NAL unit (7.3.1) with a start code. */
static size_t finish(struct writer *writer, unsigned ref_idc, unsigned type, uint8_t *to)
{
    put(writer, 1, 1);
    align(writer);
    uint8_t *start = to;
    memcpy(to, (uint8_t[]){0, 0, 0, 1, (uint8_t)(ref_idc << 5 | type)}, 5);
    to += 5;
    unsigned zeros = 0;
    for (size_t at = 0; at < writer->bits / 8; at++) {
        uint8_t byte = writer->bytes[at];
        if (zeros == 2 && byte <= 3) { /* would look like a start code */
            *to++ = 3;
            zeros = 0;
        }
        *to++ = byte;
        zeros = byte ? 0 : zeros + 1;
    }
    return (size_t)(to - start);
}

static unsigned macroblocks(unsigned samples)
{
    return (samples + 15) / 16;
}

/* Video usability information (E.1.1). */
static void put_vui(struct writer *writer, const struct h264_format *format)
{
    put(writer, 1, 1);                     /* aspect_ratio_info_present_flag */
    put(writer, 8, 1);                     /* square */
    put(writer, 1, 0);                     /* overscan_info_present_flag */
    put(writer, 1, format->has_colour);    /* video_signal_type_present_flag */
    if (format->has_colour) {
        put(writer, 3, 5);                 /* video_format: unspecified */
        put(writer, 1, format->full_range);
        put(writer, 1, 1);                 /* colour_description_present_flag */
        put(writer, 8, format->colour_primaries);
        put(writer, 8, format->transfer_characteristics);
        put(writer, 8, format->matrix_coefficients);
    }
    put(writer, 1, 0);                     /* chroma_loc_info_present_flag */
    put(writer, 1, 1);                     /* timing_info_present_flag, in fields */
    put(writer, 32, format->fps_denominator);
    put(writer, 32, 2 * format->fps_numerator);
    put(writer, 1, 1);                     /* fixed_frame_rate_flag */
    put(writer, 3, 0);                     /* no NAL HRD, no VCL HRD, no pic_struct */
    put(writer, 1, 1);                     /* bitstream_restriction_flag */
    put(writer, 1, 1);
    put_ue(writer, 0);
    put_ue(writer, 0);
    put_ue(writer, 16);
    put_ue(writer, 16);
    put_ue(writer, format->reorder_frames);
    put_ue(writer, 1 + format->reorder_frames); /* max_dec_frame_buffering */
}

static size_t sequence_parameter_set(const struct h264_format *format, uint8_t *to)
{
    uint8_t payload[128];
    struct writer writer = {payload, 0};
    unsigned across = macroblocks(format->width), down = macroblocks(format->height);
    unsigned right = (16 * across - format->width) / 2, below = (16 * down - format->height) / 2;
    put(&writer, 8, format->profile_idc);
    put(&writer, 8, 0);
    put(&writer, 8, 51); /* level 5.1 */
    put_ue(&writer, 0);
    if (format->profile_idc == 100) {
        put_ue(&writer, 1); /* 4:2:0 */
        put_ue(&writer, 0); /* 8 bits */
        put_ue(&writer, 0);
        put(&writer, 2, 0);
    }
    put_ue(&writer, COUNTER_BITS - 4);      /* of frame_num */
    put_ue(&writer, 0);                     /* pic_order_cnt_type */
    put_ue(&writer, COUNTER_BITS - 4);      /* of pic_order_cnt_lsb */
    put_ue(&writer, 1 + format->reorder_frames); /* max_num_ref_frames */
    put(&writer, 1, 0);
    put_ue(&writer, across - 1);
    put_ue(&writer, down - 1);
    put(&writer, 2, 3);                     /* frames only; direct_8x8_inference_flag */
    put(&writer, 1, right || below);
    if (right || below) {
        put_ue(&writer, 0);
        put_ue(&writer, right);
        put_ue(&writer, 0);
        put_ue(&writer, below);
    }
    put(&writer, 1, 1);
    put_vui(&writer, format);
    return finish(&writer, 3, NAL_SPS, to);
}

static size_t picture_parameter_set(const struct h264_format *format, uint8_t *to)
{
    uint8_t payload[32];
    struct writer writer = {payload, 0};
    put_ue(&writer, 0);
    put_ue(&writer, 0);
    put(&writer, 2, 0);                     /* CAVLC; no field pictures */
    put_ue(&writer, 0);
    put_ue(&writer, 0);
    put_ue(&writer, 0);
    put(&writer, 3, 0);
    put_se(&writer, (int)format->variant);  /* pic_init_qp_minus26: I_PCM does not use it */
    put_se(&writer, 0);
    put_se(&writer, 0);
    put(&writer, 3, 4);                     /* deblocking_filter_control_present_flag */
    return finish(&writer, 3, NAL_PPS, to);
}

size_t h264_parameter_sets(const struct h264_format *format, uint8_t *to)
{
    size_t size = sequence_parameter_set(format, to);
    return size + picture_parameter_set(format, to + size);
}

/* Whole macroblocks repeat the picture's last column and row. */
static uint8_t clamped(const uint8_t *plane, size_t pitch, unsigned step, unsigned x, unsigned y,
                       unsigned width, unsigned height)
{
    x = x < width ? x : width - 1;
    y = y < height ? y : height - 1;
    return plane[y * pitch + x * step];
}

static void put_macroblock(uint8_t *to, const struct h264_format *format,
                           const struct h264_samples *samples, unsigned column, unsigned row)
{
    unsigned step = samples->cr ? 1 : 2, width = format->width / 2, height = format->height / 2;
    const uint8_t *chroma[] = {samples->cb, samples->cr ? samples->cr : samples->cb + 1};
    for (unsigned y = 0; y < 16; y++)
        for (unsigned x = 0; x < 16; x++)
            *to++ = clamped(samples->luma, samples->luma_pitch, 1, 16 * column + x, 16 * row + y,
                            format->width, format->height);
    for (unsigned plane = 0; plane < 2; plane++)
        for (unsigned y = 0; y < 8; y++)
            for (unsigned x = 0; x < 8; x++)
                *to++ = clamped(chroma[plane], samples->chroma_pitch, step, 8 * column + x,
                                8 * row + y, width, height);
}

static size_t payload_limit(const struct h264_format *format)
{
    size_t count = (size_t)macroblocks(format->width) * macroblocks(format->height);
    return count * (MACROBLOCK_BYTES + 4) + 64;
}

size_t h264_picture_limit(const struct h264_format *format)
{
    return payload_limit(format) * 3 / 2 + 256; /* at most one byte in three is put in */
}

size_t h264_picture(const struct h264_format *format, const struct h264_slice *slice,
                    const struct h264_samples *samples, uint8_t *to)
{
    struct writer writer = {malloc(payload_limit(format)), 0};
    put_ue(&writer, 0);
    put_ue(&writer, SLICE_TYPE_I);
    put_ue(&writer, 0);
    put(&writer, COUNTER_BITS, slice->frame_num);
    if (slice->is_idr)
        put_ue(&writer, slice->idr_pic_id);
    put(&writer, COUNTER_BITS, slice->pic_order_cnt_lsb);
    if (slice->is_reference)
        put(&writer, slice->is_idr ? 2 : 1, 0);
    put_se(&writer, 0);
    put_ue(&writer, 1); /* no deblocking */
    for (unsigned row = 0; row < macroblocks(format->height); row++)
        for (unsigned column = 0; column < macroblocks(format->width); column++) {
            put_ue(&writer, MB_TYPE_I_PCM);
            align(&writer);
            put_macroblock(writer.bytes + writer.bits / 8, format, samples, column, row);
            writer.bits += 8 * MACROBLOCK_BYTES;
        }
    size_t size = finish(&writer, slice->is_reference, slice->is_idr ? NAL_IDR : NAL_SLICE, to);
    free(writer.bytes);
    return size;
}

struct reader {
    const uint8_t *bytes;
    size_t bits, end; /* both in bits */
};

static uint32_t get(struct reader *reader, unsigned count)
{
    uint32_t value = 0;
    for (; count--; reader->bits++)
        value = value << 1 | (reader->bits < reader->end
                                  ? reader->bytes[reader->bits / 8] >> (7 - reader->bits % 8) & 1u
                                  : 0);
    return value;
}

static uint32_t get_ue(struct reader *reader)
{
    unsigned zeros = 0;
    while (zeros < 31 && reader->bits < reader->end && !get(reader, 1))
        zeros++;
    return (1u << zeros) - 1 + get(reader, zeros);
}

/* Skips a slice header as `h264_picture` writes it; gives 0 for another kind of slice. */
static int skip_header(struct reader *reader, unsigned ref_idc, unsigned type)
{
    if (get_ue(reader) != 0 || get_ue(reader) != SLICE_TYPE_I || get_ue(reader) != 0)
        return 0;
    get(reader, COUNTER_BITS);
    if (type == NAL_IDR)
        get_ue(reader);
    get(reader, COUNTER_BITS);
    if (ref_idc)
        get(reader, type == NAL_IDR ? 2 : 1);
    return get_ue(reader) == 0 && get_ue(reader) == 1;
}

static void copy_macroblock(const uint8_t *from, uint8_t *luma, uint8_t *chroma, size_t pitch)
{
    for (unsigned y = 0; y < 16; y++)
        memcpy(luma + y * pitch, from + 16 * y, 16);
    for (unsigned y = 0; y < 8; y++)
        for (unsigned x = 0; x < 8; x++) {
            chroma[y * pitch + 2 * x] = from[256 + 8 * y + x];
            chroma[y * pitch + 2 * x + 1] = from[320 + 8 * y + x];
        }
}

static int decode_payload(struct reader *reader, unsigned across, unsigned down, uint8_t *luma,
                          uint8_t *chroma, size_t pitch)
{
    for (unsigned row = 0; row < down; row++)
        for (unsigned column = 0; column < across; column++) {
            if (get_ue(reader) != MB_TYPE_I_PCM)
                return 0;
            reader->bits = (reader->bits + 7) / 8 * 8;
            if (reader->bits + 8 * MACROBLOCK_BYTES > reader->end)
                return 0;
            copy_macroblock(reader->bytes + reader->bits / 8,
                            luma + 16 * row * pitch + 16 * column,
                            chroma + 8 * row * pitch + 16 * column, pitch);
            reader->bits += 8 * MACROBLOCK_BYTES;
        }
    return 1;
}

int h264_decode(const uint8_t *nal, size_t size, unsigned across, unsigned down, uint8_t *luma,
                uint8_t *chroma, size_t pitch)
{
    size_t start = 0, length = 0;
    while (start + 4 < size && nal[start] == 0)
        start++;
    if (start < 2 || nal[start] != 1)
        return 0;
    unsigned header = nal[start + 1];
    uint8_t *payload = malloc(size);
    unsigned zeros = 0;
    for (size_t at = start + 2; at < size; at++) {
        if (zeros == 2 && nal[at] == 3) { /* was put in by `finish` */
            zeros = 0;
            continue;
        }
        zeros = nal[at] ? 0 : zeros + 1;
        payload[length++] = nal[at];
    }
    struct reader reader = {payload, 0, 8 * length};
    int decoded = skip_header(&reader, header >> 5 & 3, header & 31)
                  && decode_payload(&reader, across, down, luma, chroma, pitch);
    free(payload);
    return decoded;
}
