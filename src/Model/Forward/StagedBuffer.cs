// Small tensors on their way between the host and whatever device computes: ids, labels and weights there, losses back. On the CPU nothing is copied.
using IptNative.Kernels;
using IptNative.Kernels.Devices;

namespace IptNative.Model.Forward;

/// <summary>One reusable tensor with a host side: the tensor's own memory on the CPU, memory that does not move in front of any other device.</summary>
internal sealed unsafe class StagedBuffer(ComputeDevice device, DType type, string purpose) : IDisposable
{
    private readonly GrowingBuffer _there = new(device, type, purpose);
    private readonly bool _isHost = device is CpuDevice;
    private byte[] _here = [];

    /// <summary>The device's side, as long as the last <see cref="Take"/> asked for.</summary>
    public Tensor Tensor { get; private set; }

    /// <summary>Room for so many elements; contents undefined.</summary>
    /// <param name="elements">1 or more.</param>
    /// <returns>The host side's first byte, valid until the next call.</returns>
    public nint Take(long elements)
    {
        Tensor = _there.Take(elements);
        if (_isHost)
            return Tensor.Address;
        int bytes = checked((int)type.ByteLength(elements));
        if (_here.Length < bytes)
            _here = GC.AllocateUninitializedArray<byte>(bytes, pinned: true);
        return Host;
    }

    /// <summary>Hands what the host has written to the device.</summary>
    /// <returns><see cref="Tensor"/>.</returns>
    public Tensor Send()
    {
        if (!_isHost)
            device.CopyFromHost(Here, Tensor);
        return Tensor;
    }

    /// <summary>Brings what the device has written; waits for the work handed to it before.</summary>
    /// <returns>The host side's first byte.</returns>
    public nint Fetch()
    {
        if (_isHost)
            return Tensor.Address;
        device.CopyToHost(Tensor, Here);
        return Host;
    }

    public void Dispose() => _there.Dispose();

    private Span<byte> Here => _here.AsSpan(0, (int)type.ByteLength(Tensor.Elements));

    // Pinned: it stays where it is.
    private nint Host => (nint)System.Runtime.CompilerServices.Unsafe.AsPointer(ref _here[0]);
}
