// A tensor's dimensions and nothing else: no strides, no data.
namespace IptNative.Kernels;

/// <summary>Dimensions of a row-major tensor, last index fastest.</summary>
public readonly struct TensorShape : IEquatable<TensorShape>
{
    private readonly long[]? _dims;

    /// <summary>Makes a shape.</summary>
    /// <param name="dims">Dimensions, each 0 or more; copied.</param>
    /// <exception cref="ArgumentException">A dimension is negative.</exception>
    public TensorShape(params ReadOnlySpan<long> dims)
    {
        foreach (long d in dims)
        {
            if (d < 0)
                throw new ArgumentException($"shape: found dimension {d}, expected 0 or more.", nameof(dims));
        }
        _dims = dims.ToArray();
    }

    /// <summary>The dimensions.</summary>
    public ReadOnlySpan<long> Dims => _dims;

    /// <summary>Number of dimensions.</summary>
    public int Rank => _dims?.Length ?? 0;

    /// <summary>Dimension <paramref name="axis"/>.</summary>
    /// <param name="axis">0 to <see cref="Rank"/> - 1.</param>
    public long this[int axis] => Dims[axis];

    /// <summary>Number of elements; 1 for a scalar.</summary>
    /// <exception cref="OverflowException">The product does not fit 64 bits: a lying file.</exception>
    public long Elements
    {
        get
        {
            long n = 1;
            foreach (long d in Dims)
                n = checked(n * d);
            return n;
        }
    }

    /// <inheritdoc/>
    public bool Equals(TensorShape other) => Dims.SequenceEqual(other.Dims);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => obj is TensorShape other && Equals(other);

    /// <inheritdoc/>
    public override int GetHashCode()
    {
        var hash = new HashCode();
        foreach (long d in Dims)
            hash.Add(d);
        return hash.ToHashCode();
    }

    /// <summary>As written in messages: [768, 64].</summary>
    /// <returns>The dimensions in brackets.</returns>
    public override string ToString() => $"[{string.Join(", ", _dims ?? [])}]";

    /// <summary>Same dimensions.</summary>
    public static bool operator ==(TensorShape a, TensorShape b) => a.Equals(b);

    /// <summary>Other dimensions.</summary>
    public static bool operator !=(TensorShape a, TensorShape b) => !a.Equals(b);
}
