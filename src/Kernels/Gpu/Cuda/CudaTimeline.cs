// Marks by CUDA events on the device's stream. Events are made as marks are first needed and then used again.
using System.Runtime.InteropServices;
using ILGPU.Runtime.Cuda;
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Gpu;

/// <summary>Events on one stream; mark 0 is the beginning.</summary>
internal sealed class CudaTimeline(CudaAccelerator accelerator, CudaStream stream) : DeviceTimeline
{
    private readonly List<nint> _events = [];
    private int _marks;

    public override void Restart()
    {
        stream.Synchronize();
        _marks = 0;
        Record();
    }

    public override int Mark()
    {
        Record();
        return _marks - 1;
    }

    public override double SecondsAt(int mark)
    {
        Span<nint> events = CollectionsMarshal.AsSpan(_events);
        accelerator.Bind();
        CudaException.ThrowIfFailed(CudaAPI.CurrentAPI.SynchronizeEvent(events[mark]));
        CudaException.ThrowIfFailed(CudaAPI.CurrentAPI.ElapsedTime(out float milliseconds, events[0], events[mark]));
        return milliseconds * 1e-3;
    }

    protected override void Dispose(bool disposing)
    {
        if (!disposing)
            return;
        accelerator.Bind();
        foreach (nint made in _events)
            CudaException.ThrowIfFailed(CudaAPI.CurrentAPI.DestroyEvent(made));
        _events.Clear();
    }

    private void Record()
    {
        accelerator.Bind();
        if (_marks == _events.Count)
        {
            CudaException.ThrowIfFailed(CudaAPI.CurrentAPI.CreateEvent(out nint made, CudaEventFlags.CU_EVENT_DEFAULT));
            _events.Add(made);
        }
        CudaException.ThrowIfFailed(CudaAPI.CurrentAPI.RecordEvent(_events[_marks++], stream.StreamPtr));
    }
}
