// Ids, lengths and places lie in device memory: only kernels can check them, and nobody waits for the answer within a step. A kernel that meets a bad
// one leaves the row alone and notes it; the next Synchronize (every download is one) throws what the CPU would have thrown at once.
using System.Runtime.InteropServices;
using ILGPU;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Gpu;

/// <summary>A bad number: the op, where it stood, what bounds it, and for a place its three numbers.</summary>
internal readonly record struct Fault(string Op, long Index, int Value, long Limit, int First, int Length, int Position);

/// <summary>The first bad number that a kernel has met.</summary>
/// <remarks>
/// One 64-bit word: check (11 bits), index (20 bits, saturated), value (32 bits). Atomic minimum keeps the earliest check's lowest index, whatever order
/// threads ran in. Three more numbers hold a place's details, written by the one warp that checks places.
/// </remarks>
internal sealed class DeviceFaults
{
    private const int MaxChecks = 1 << 11;
    private const int MaxIndex = (1 << 20) - 1;
    private const int DetailCount = 3;
    private readonly IlgpuDevice _device;
    private readonly (Func<Fault, string> Message, string Op, long Limit, string Parameter)[] _checks = new (Func<Fault, string>, string, long, string)[MaxChecks];
    private Tensor _word;
    private Tensor _details;
    private int _count;

    public DeviceFaults(IlgpuDevice device) => _device = device;

    /// <summary>Registers what to say about a check's failure.</summary>
    /// <param name="message">What to say; a static lambda.</param>
    /// <param name="op">Class and method.</param>
    /// <param name="limit">The number that bounds the value.</param>
    /// <param name="parameter">The argument's name.</param>
    /// <returns>What the kernel needs to note a fault.</returns>
    public FaultNote Expect(Func<Fault, string> message, string op, long limit, string parameter)
    {
        if (_word.IsEmpty)
        {
            _word = _device.Hold(DType.I64, 1, "the kernels' fault word");
            _details = _device.Hold(DType.I32, DetailCount, "the kernels' fault details");
            Clear();
        }
        if (_count == MaxChecks)
            _device.Synchronize();
        _checks[_count] = (message, op, limit, parameter);
        return new FaultNote { Word = _device.View<long>(_word), Details = _device.View<int>(_details), Check = _count++ };
    }

    /// <summary>Throws what was noted, once. The device has finished its work.</summary>
    public void Report()
    {
        if (_count == 0)
            return;
        _count = 0;
        long word = 0;
        _device.Download(_word.Address, MemoryMarshal.AsBytes(new Span<long>(ref word)));
        if (word == long.MaxValue)
            return;
        Span<int> details = stackalloc int[DetailCount];
        _device.Download(_details.Address, MemoryMarshal.AsBytes(details));
        Clear();
        (Func<Fault, string> message, string op, long limit, string parameter) = _checks[word >> 52];
        throw new ArgumentException(message(new Fault(op, (word >> 32) & MaxIndex, (int)(uint)word, limit, details[0], details[1], details[2])), parameter);
    }

    private void Clear()
    {
        long none = long.MaxValue;
        _device.Upload(MemoryMarshal.AsBytes(new ReadOnlySpan<long>(in none)), _word.Address);
    }

    /// <summary>What a kernel writes a fault to.</summary>
    internal struct FaultNote
    {
        public ArrayView<long> Word;
        public ArrayView<int> Details;
        public int Check;

        /// <summary>On the device: notes a bad number.</summary>
        public static void Report(FaultNote note, long index, int value)
        {
            long saturated = index < MaxIndex ? index : MaxIndex;
            Atomic.Min(ref note.Word[0], Pack(note.Check, saturated, value));
        }

        /// <summary>On the device, one thread: notes a bad place.</summary>
        public static void Report(FaultNote note, long index, int first, int length, int position)
        {
            if (note.Word[0] == long.MaxValue)
            {
                note.Details[0] = first;
                note.Details[1] = length;
                note.Details[2] = position;
                note.Word[0] = Pack(note.Check, index < MaxIndex ? index : MaxIndex, 0);
            }
        }

        private static long Pack(int check, long index, int value) => ((long)check << 52) | (index << 32) | (uint)value;
    }
}
