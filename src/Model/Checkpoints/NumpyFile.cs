// NumPy's .npy files: parity fixtures, T5X prompts, prompts by hand. Deliberately not: .npz, object arrays, text, big-endian files.
using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using IptNative.Kernels;

namespace IptNative.Model.Checkpoints;

/// <summary>One array of a .npy file, in memory, row-major.</summary>
/// <remarks>Reads versions 1 to 3, f2, f4, f8, i4 and i8, little-endian, C and Fortran order. Source: numpy/lib/format.py.</remarks>
public sealed class NumpyFile
{
    // numpy's own limit for a header that needs no trust (max_header_size).
    private const int MaxHeaderBytes = 10_000;

    private readonly string _path;
    private readonly byte[] _data;

    private NumpyFile(string path, DType type, TensorShape shape, byte[] data) => (_path, DType, Shape, _data) = (path, type, shape, data);

    /// <summary>Element type: f16, f32, f64, i32 or i64.</summary>
    public DType DType { get; }

    /// <summary>Dimensions; none for a scalar.</summary>
    public TensorShape Shape { get; }

    /// <summary>Whether a file starts as every .npy file does, whatever its name: T5X saves prompts without an extension.</summary>
    /// <param name="path">An existing file.</param>
    /// <returns>True for NumPy's magic bytes.</returns>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static bool IsNumpy(string path)
    {
        using FileStream file = File.OpenRead(path);
        Span<byte> magic = stackalloc byte[6];
        return file.ReadAtLeast(magic, 6, throwOnEndOfStream: false) == 6 && magic.SequenceEqual(Magic);
    }

    /// <summary>Reads an array.</summary>
    /// <param name="path">The file.</param>
    /// <returns>The array, in row-major order even where the file is in Fortran order.</returns>
    /// <exception cref="InvalidDataException">The file is truncated, damaged, or of a type that is not read.</exception>
    /// <exception cref="IOException">The file cannot be opened.</exception>
    public static NumpyFile Read(string path)
    {
        using var map = new MappedFile(path);
        if (map.Length < 10 || !map.Prefix(0, 6).SequenceEqual(Magic))
            throw Bad(path, "it does not start with NumPy's magic bytes");
        ReadOnlySpan<byte> version = map.Span(6, 2, "the version");
        int prefix = version[0] == 1 ? 10 : 12;
        if (version[0] is < 1 or > 3 || version[1] != 0)
            throw Bad(path, $"it has version {version[0]}.{version[1]}, expected 1.0, 2.0 or 3.0");
        ReadOnlySpan<byte> lengthBytes = map.Span(8, prefix - 8, "the header length");
        long headerLength = prefix == 10 ? BinaryPrimitives.ReadUInt16LittleEndian(lengthBytes) : BinaryPrimitives.ReadUInt32LittleEndian(lengthBytes);
        if (headerLength > MaxHeaderBytes || headerLength > map.Length - prefix)
            throw Bad(path, $"its header claims {headerLength} bytes, expected at most {Math.Min(MaxHeaderBytes, map.Length - prefix)}");
        (string descr, bool fortran, TensorShape shape) = new NumpyHeader(path, Encoding.UTF8.GetString(map.Span(prefix, (int)headerLength, "the header"))).Parse();
        DType type = ElementType(path, descr);

        long available = map.Length - prefix - headerLength;
        long bytes;
        try
        {
            bytes = checked(shape.Elements * type.Bits()) / 8;
        }
        catch (OverflowException e)
        {
            throw new InvalidDataException($"{path}: reading a NumPy file; its shape {shape} is more than 64 bits can count. The file is damaged.", e);
        }
        if (bytes != available)
            throw Bad(path, $"{descr} {shape} takes {bytes} bytes, {available} follow the header");
        if (bytes > Array.MaxLength)
            throw Bad(path, $"{descr} {shape} takes {bytes} bytes, expected at most {Array.MaxLength}");

        ReadOnlySpan<byte> data = map.Span(prefix + headerLength, (int)bytes, "the array");
        return new NumpyFile(path, type, shape, fortran && shape.Rank > 1 ? ToRowMajor(data, shape, type.Bits() / 8) : data.ToArray());
    }

    /// <summary>Writes f32 values as a version 1.0 file in C order.</summary>
    /// <param name="path">The file to make or replace.</param>
    /// <param name="shape">Dimensions.</param>
    /// <param name="values">Row-major values.</param>
    /// <exception cref="ArgumentException">The number of values is not the shape's.</exception>
    /// <exception cref="IOException">The folder is missing or cannot be written.</exception>
    public static void Write(string path, TensorShape shape, ReadOnlySpan<float> values) => Write(path, "<f4", shape, values.Length, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>Writes f64 values as a version 1.0 file in C order.</summary>
    /// <param name="path">The file to make or replace.</param>
    /// <param name="shape">Dimensions.</param>
    /// <param name="values">Row-major values.</param>
    /// <exception cref="ArgumentException">The number of values is not the shape's.</exception>
    /// <exception cref="IOException">The folder is missing or cannot be written.</exception>
    public static void Write(string path, TensorShape shape, ReadOnlySpan<double> values) => Write(path, "<f8", shape, values.Length, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>Writes i64 values as a version 1.0 file in C order.</summary>
    /// <param name="path">The file to make or replace.</param>
    /// <param name="shape">Dimensions.</param>
    /// <param name="values">Row-major values.</param>
    /// <exception cref="ArgumentException">The number of values is not the shape's.</exception>
    /// <exception cref="IOException">The folder is missing or cannot be written.</exception>
    public static void Write(string path, TensorShape shape, ReadOnlySpan<long> values) => Write(path, "<i8", shape, values.Length, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>Values as floats.</summary>
    /// <returns>A new array; f64 is rounded.</returns>
    /// <exception cref="InvalidDataException">The file holds whole numbers.</exception>
    public float[] ToFloats() => DType switch
    {
        DType.F32 => MemoryMarshal.Cast<byte, float>(_data).ToArray(),
        DType.F16 => Array.ConvertAll(MemoryMarshal.Cast<byte, Half>(_data).ToArray(), h => (float)h),
        DType.F64 => Array.ConvertAll(MemoryMarshal.Cast<byte, double>(_data).ToArray(), d => (float)d),
        _ => throw Bad(_path, $"it holds {DType.Name()}, expected f2, f4 or f8"),
    };

    /// <summary>Values as doubles.</summary>
    /// <returns>A new array.</returns>
    /// <exception cref="InvalidDataException">The file holds whole numbers.</exception>
    public double[] ToDoubles() => DType == DType.F64 ? MemoryMarshal.Cast<byte, double>(_data).ToArray() : Array.ConvertAll(ToFloats(), f => (double)f);

    /// <summary>Values as whole numbers.</summary>
    /// <returns>A new array.</returns>
    /// <exception cref="InvalidDataException">The file holds floating-point numbers.</exception>
    public long[] ToInt64() => DType switch
    {
        DType.I64 => MemoryMarshal.Cast<byte, long>(_data).ToArray(),
        DType.I32 => Array.ConvertAll(MemoryMarshal.Cast<byte, int>(_data).ToArray(), i => (long)i),
        _ => throw Bad(_path, $"it holds {DType.Name()}, expected i4 or i8"),
    };

    private static ReadOnlySpan<byte> Magic => [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    private static DType ElementType(string path, string descr) => descr switch
    {
        "<f4" => DType.F32,
        "<f2" => DType.F16,
        "<f8" => DType.F64,
        "<i4" => DType.I32,
        "<i8" => DType.I64,
        _ when descr.StartsWith('>') => throw new InvalidDataException($"{path}: reading a NumPy file; its type '{descr}' is big-endian, expected little-endian. Convert it with numpy: np.save(path, a.astype('<f4'))."),
        _ => throw new InvalidDataException($"{path}: reading a NumPy file; its type is '{descr}', expected <f2, <f4, <f8, <i4 or <i8. Convert it with numpy: np.save(path, a.astype('<f4'))."),
    };

    // Element [i0, i1, ...] lies at i0 + d0 * (i1 + d1 * ...): walked in row-major order with an odometer.
    private static byte[] ToRowMajor(ReadOnlySpan<byte> data, TensorShape shape, int size)
    {
        var target = new byte[data.Length];
        var strides = new long[shape.Rank];
        long step = size;
        for (int i = 0; i < strides.Length; i++)
        {
            strides[i] = step;
            step *= shape[i];
        }
        var index = new long[shape.Rank];
        long source = 0;
        for (int at = 0; at < target.Length; at += size)
        {
            data.Slice((int)source, size).CopyTo(target.AsSpan(at));
            for (int axis = shape.Rank - 1; axis >= 0; axis--)
            {
                source += strides[axis];
                if (++index[axis] < shape[axis])
                    break;
                source -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        return target;
    }

    private static void Write(string path, string descr, TensorShape shape, int count, byte[] data)
    {
        if (count != shape.Elements)
            throw new ArgumentException($"{path}: found {count} values, shape {shape} expects {shape.Elements}.", nameof(shape));
        string dims = string.Join(", ", shape.Dims.ToArray().Select(d => d.ToString(CultureInfo.InvariantCulture)));
        string header = $"{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}{(shape.Rank == 1 ? "," : "")}), }}";
        // numpy pads so that the data start at a multiple of 64; the header ends in a newline.
        int total = (10 + header.Length + 1 + 63) / 64 * 64;
        header = header.PadRight(total - 11) + "\n";
        AtomicFile.Write(path, stream =>
        {
            stream.Write(Magic);
            stream.Write([1, 0, (byte)header.Length, (byte)(header.Length >> 8)]);
            stream.Write(Encoding.ASCII.GetBytes(header));
            stream.Write(data);
        });
    }

    internal static InvalidDataException Bad(string path, string found) =>
        new($"{path}: reading a NumPy file; {found}. The file is truncated or damaged: copy it again, or save it again with numpy.save.");
}
