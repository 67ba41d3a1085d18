// When a device reached points of its work: what `profile` times ops by where work is handed over and done later. Deliberately no statistics.
namespace IptNative.Kernels.Devices;

/// <summary>Marks in a device's work, in order with it. Marking waits for nothing.</summary>
public abstract class DeviceTimeline : IDisposable
{
    /// <summary>Waits for the device, forgets all marks and begins at 0 s.</summary>
    public abstract void Restart();

    /// <summary>Marks the end of the work handed over so far.</summary>
    /// <returns>The mark's number.</returns>
    public abstract int Mark();

    /// <summary>When the device reached a mark; waits until it has.</summary>
    /// <param name="mark">Its number since <see cref="Restart"/>.</param>
    /// <returns>Seconds since <see cref="Restart"/>, by the device's own clock.</returns>
    public abstract double SecondsAt(int mark);

    /// <summary>Frees what the marks are made of.</summary>
    /// <param name="disposing">True from Dispose.</param>
    protected abstract void Dispose(bool disposing);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }
}
