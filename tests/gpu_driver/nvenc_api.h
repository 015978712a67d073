/* What the stand-in needs of NVIDIA's public encoder interface, version 13.0 (nvEncodeAPI.h).
 *
 * Most of its structures end in much reserved space. Only their beginnings are declared, up to the
 * last field that is used. Callers allocate them, so their size does not matter here.
 */
#ifndef NVENC_API_H
#define NVENC_API_H

#include <stdint.h>

enum { API_MAJOR = 13, API_MINOR = 0 };

typedef enum {
    NV_ENC_SUCCESS = 0,
    NV_ENC_ERR_NO_ENCODE_DEVICE = 1,
    NV_ENC_ERR_UNSUPPORTED_DEVICE = 2,
    NV_ENC_ERR_INVALID_PTR = 6,
    NV_ENC_ERR_INVALID_PARAM = 8,
    NV_ENC_ERR_INVALID_CALL = 9,
    NV_ENC_ERR_OUT_OF_MEMORY = 10,
    NV_ENC_ERR_INVALID_VERSION = 15,
    NV_ENC_ERR_NEED_MORE_INPUT = 17,
    NV_ENC_ERR_UNIMPLEMENTED = 22,
    NV_ENC_ERR_RESOURCE_NOT_REGISTERED = 24,
} NVENCSTATUS;

enum { NV_ENC_BUFFER_FORMAT_NV12 = 0x1, NV_ENC_BUFFER_FORMAT_YV12 = 0x10 };
enum { NV_ENC_INPUT_RESOURCE_TYPE_CUDADEVICEPTR = 1 };
enum { NV_ENC_PIC_FLAG_FORCEIDR = 0x2, NV_ENC_PIC_FLAG_EOS = 0x8 };
enum { NV_ENC_PIC_TYPE_P = 0, NV_ENC_PIC_TYPE_B = 1, NV_ENC_PIC_TYPE_IDR = 3 };

typedef struct {
    uint32_t a;
    uint16_t b, c;
    uint8_t d[8];
} GUID;

static const GUID CODEC_H264 = {
    0x6bc82762, 0x4e63, 0x4ca4, {0xaa, 0x85, 0x1e, 0x50, 0xf3, 0x21, 0xf6, 0xbf}};
static const GUID CODEC_HEVC = {
    0x790cdc88, 0x4522, 0x4d7b, {0x94, 0x25, 0xbd, 0xa9, 0x97, 0x5f, 0x76, 0x03}};

static const GUID PRESETS[] = {
    {0xfc0a8d3e, 0x45f8, 0x4cf8, {0x80, 0xc7, 0x29, 0x88, 0x71, 0x59, 0x0e, 0xbf}},
    {0xf581cfb8, 0x88d6, 0x4381, {0x93, 0xf0, 0xdf, 0x13, 0xf9, 0xc2, 0x7d, 0xab}},
    {0x36850110, 0x3a07, 0x441f, {0x94, 0xd5, 0x36, 0x70, 0x63, 0x1f, 0x91, 0xf6}},
    {0x90a7b826, 0xdf06, 0x4862, {0xb9, 0xd2, 0xcd, 0x6d, 0x73, 0xa0, 0x86, 0x81}},
    {0x21c6e6b4, 0x297a, 0x4cba, {0x99, 0x8f, 0xb6, 0xcb, 0xde, 0x72, 0xad, 0xe3}},
    {0x8e75c279, 0x6299, 0x4ab6, {0x83, 0x02, 0x0b, 0x21, 0x5a, 0x33, 0x5c, 0xf5}},
    {0x84848c12, 0x6f71, 0x4c13, {0x93, 0x1b, 0x53, 0xe2, 0x83, 0xf5, 0x79, 0x74}},
};

static const struct profile {
    const char *name;
    unsigned idc; /* of H.264; 0 for HEVC */
    GUID guid;
} PROFILES[] = {
    {"baseline", 66, {0x0727bcaa, 0x78c4, 0x4c83, {0x8c, 0x2f, 0xef, 0x3d, 0xff, 0x26, 0x7c, 0x6a}}},
    {"main", 77, {0x60b5c1d4, 0x67fe, 0x4790, {0x94, 0xd5, 0xc4, 0x72, 0x6d, 0x7b, 0x6e, 0x6d}}},
    {"high", 100, {0xe7cbc309, 0x4f7a, 0x4b89, {0xaf, 0x2a, 0xd5, 0x37, 0xc9, 0x2b, 0xe3, 0x10}}},
    {"main", 0, {0xb514c39a, 0xb55b, 0x40fa, {0x87, 0x8f, 0xf1, 0x25, 0x3b, 0x4d, 0xfd, 0xec}}},
};

typedef struct {
    uint32_t version, type;
    void *device, *reserved;
    uint32_t api_version;
} OPEN_SESSION;

typedef struct {
    uint32_t version, wanted;
} CAPS_PARAM;

typedef struct {
    uint32_t p, b, i;
} QP;

typedef struct {
    uint32_t version, mode;
    QP constant;
    uint32_t average_bitrate, max_bitrate, vbv_size, vbv_delay;
    uint32_t enable_min_qp : 1, enable_max_qp : 1, enable_initial_qp : 1, enable_aq : 1;
    uint32_t reserved_1 : 1, enable_lookahead : 1, disable_i_adapt : 1, disable_b_adapt : 1;
    uint32_t enable_temporal_aq : 1, zero_reorder_delay : 1, enable_nonref_p : 1;
    uint32_t strict_gop_target : 1, aq_strength : 4, reserved_2 : 16;
    QP min, max, initial;
    uint32_t layer_mask;
    uint8_t layer_qp[8], target_quality, target_quality_256ths;
    uint16_t lookahead_depth;
    uint32_t reserved_3[9];
} RC_PARAMS;

typedef struct {
    uint32_t overscan_present, overscan, signal_present, format, full_range, colour_present;
    uint32_t primaries, transfer, matrix;
} VUI;

typedef struct {
    uint32_t stereo_etc : 7, disable_parameter_sets : 1, more : 4, repeat_parameter_sets : 1;
    uint32_t others : 19;
    uint32_t level, idr_period, reserved[15];
    VUI vui;
} CONFIG_H264;

typedef struct {
    uint32_t version;
    GUID profile;
    uint32_t gop_length;
    int32_t frame_interval_p;
    uint32_t mono, field_mode, mv_precision;
    RC_PARAMS rc;
    CONFIG_H264 h264; /* a union with those of HEVC and AV1, at a multiple of 8 bytes */
} CONFIG;

typedef struct {
    uint32_t version, reserved;
    CONFIG config;
} PRESET_CONFIG;

typedef struct {
    uint32_t version;
    GUID codec, preset;
    uint32_t width, height, dar_width, dar_height, fps_numerator, fps_denominator;
    uint32_t is_async, decides_types, flags, private_size, reserved;
    void *private_data;
    CONFIG *config;
    uint32_t max_width, max_height, hints[8], tuning;
} INITIALIZE;

typedef struct {
    uint32_t version, width, height, heap, format, reserved;
    void *buffer;
} CREATE_INPUT;

typedef struct {
    uint32_t version, size, heap, reserved;
    void *buffer;
} CREATE_BITSTREAM;

typedef struct {
    uint32_t version, flags;
    void *buffer, *data;
    uint32_t pitch;
} LOCK_INPUT;

typedef struct {
    uint32_t version, type, width, height, pitch, index;
    void *pointer, *registered;
    uint32_t format, usage;
} REGISTER;

typedef struct {
    uint32_t version, index;
    void *input, *registered, *mapped;
    uint32_t format;
} MAP_INPUT;

typedef struct {
    uint32_t version, width, height, pitch, flags, index;
    uint64_t time, duration;
    void *input, *bitstream, *event;
    uint32_t format, structure, type;
} PICTURE;

typedef struct {
    uint32_t version, flags;
    void *bitstream;
    uint32_t *slice_offsets;
    uint32_t index, status, slices, size;
    uint64_t time, duration;
    void *bytes;
    uint32_t type, structure, average_qp;
} LOCK_BITSTREAM;

typedef struct {
    uint32_t version, room, sps_id, pps_id;
    void *bytes;
    uint32_t *size;
} SEQUENCE_PARAMS;

/* The functions that a client gets, by their place in its table. */
enum {
    GET_CODEC_COUNT = 1, GET_CODECS = 4, GET_CAPS = 7, INITIALIZE_ENCODER = 11,
    CREATE_INPUT_BUFFER, DESTROY_INPUT_BUFFER, CREATE_BITSTREAM_BUFFER, DESTROY_BITSTREAM_BUFFER,
    ENCODE_PICTURE, LOCK_BITSTREAM_BUFFER, UNLOCK_BITSTREAM_BUFFER, LOCK_INPUT_BUFFER,
    UNLOCK_INPUT_BUFFER, GET_SEQUENCE_PARAMS = 22, MAP_RESOURCE = 25, UNMAP_RESOURCE,
    DESTROY_ENCODER, OPEN_SESSION_EX = 29, REGISTER_RESOURCE, UNREGISTER_RESOURCE,
    GET_LAST_ERROR = 37, SET_STREAMS, GET_PRESET_CONFIG_EX,
};

typedef struct {
    uint32_t version, reserved;
    void *functions[318];
} FUNCTION_LIST;

#endif
